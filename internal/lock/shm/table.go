package shm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
)

// The table is a header of slotSize bytes, magic and number of slots, and the
// slots: a byte that is the key's length, free or never, and the key. A key is
// looked for from the slot that its hash names up to one that was never used.
const (
	tableName = lock.TableName
	magic     = "cove locks 1\n"
	slotSize  = 256
	never     = 0
	free      = 255
	maxKey    = 254
)

// The bytes of the file that are locked: one for changes of the table, and
// from slotBase on one for each slot. What stands there does not matter.
const (
	allocByte = 0
	slotBase  = 1
)

// table is an open file of the table: every lock has one of its own.
type table struct {
	fd    int
	slots int
}

// open opens the table, and makes it with so many slots if there are no locks
// yet.
func open(dir string, slots int) (*table, error) {
	path := filepath.Join(dir, tableName)
	for {
		fd, err := openFile(path)
		if err == unix.ENOENT {
			if files, ferr := lock.Files(dir); ferr == nil && len(files) > 0 {
				return nil, cove.E("open lock table", path, cove.Unavailable, lock.ErrOther)
			}
			if err = create(dir, slots, nil, false); err == nil || errors.Is(err, os.ErrExist) {
				continue
			}
		}
		if err != nil {
			return nil, fault(path, err)
		}
		t := &table{fd: fd}
		if err := t.readHeader(); err != nil {
			t.close()
			return nil, cove.E("open lock table", path, cove.Internal, err)
		}
		return t, nil
	}
}

func openFile(path string) (fd int, err error) {
	err = eintr(func() error {
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		return err
	})
	return fd, err
}

func (t *table) readHeader() error {
	var h [slotSize]byte
	var st unix.Stat_t
	if err := unix.Fstat(t.fd, &st); err != nil {
		return err
	}
	if n, err := unix.Pread(t.fd, h[:], 0); err != nil || n != len(h) || string(h[:len(magic)]) != magic {
		return errDamaged
	}
	t.slots = int(binary.LittleEndian.Uint32(h[len(magic):]))
	if st.Mode&unix.S_IFMT != unix.S_IFREG || t.slots == 0 || st.Size != int64(t.slots+1)*slotSize {
		return errDamaged
	}
	return nil
}

var errDamaged = errors.New("it is damaged: \"cove system renumber\" makes a new one")

// close closes the file, and with it releases its locks. They are released
// before: a process being forked may share the open file for a moment.
func (t *table) close() {
	_ = t.lock(unix.F_OFD_SETLK, unix.F_UNLCK, 0, 0)
	_ = unix.Close(t.fd)
}

// lock locks n bytes of the file, 0 for all, as belonging to this open file.
func (t *table) lock(how int, kind int16, from, n int64) error {
	return eintr(func() error {
		return unix.FcntlFlock(uintptr(t.fd), how, &unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: from, Len: n})
	})
}

// locked tells whether another open file has locked a slot.
func (t *table) locked(slot int) (bool, error) {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: int64(slotBase + slot), Len: 1}
	err := eintr(func() error { return unix.FcntlFlock(uintptr(t.fd), unix.F_OFD_GETLK, &l) })
	return l.Type != unix.F_UNLCK, err
}

// same tells whether this file is still the table.
func (t *table) same(dir string) (bool, error) {
	var mine, named unix.Stat_t
	if err := unix.Fstat(t.fd, &mine); err != nil {
		return false, err
	}
	err := unix.Fstatat(unix.AT_FDCWD, filepath.Join(dir, tableName), &named, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return false, nil
	}
	return err == nil && mine.Ino == named.Ino && mine.Dev == named.Dev, err
}

// key is what a slot says of an object.
func key(k lock.Kind, id string) (string, error) {
	s := k.String() + "-" + id
	if len(s) > maxKey {
		return "", cove.E("lock "+k.String(), id, cove.Invalid, errors.New("the name is too long"))
	}
	return s, nil
}

func start(key string, slots int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	return int(h.Sum32() % uint32(slots))
}

func (t *table) read(slot int, buf *[slotSize]byte) error {
	n, err := unix.Pread(t.fd, buf[:], int64(slot+1)*slotSize)
	if err == nil && n != slotSize {
		err = errDamaged
	}
	return err
}

func (t *table) write(slot int, length byte, key string) error {
	var buf [slotSize]byte
	buf[0] = length
	copy(buf[1:], key)
	n, err := unix.Pwrite(t.fd, buf[:], int64(slot+1)*slotSize)
	if err == nil && n != slotSize {
		err = unix.EIO
	}
	return err
}

// holds tells whether a slot is the key's.
func (t *table) holds(slot int, key string) (bool, error) {
	var buf [slotSize]byte
	err := t.read(slot, &buf)
	return err == nil && isKey(&buf, key), err
}

func isKey(buf *[slotSize]byte, key string) bool {
	return int(buf[0]) == len(key) && string(buf[1:1+len(key)]) == key
}

// find gives the slot of a key, -1 when it has none.
func (t *table) find(key string) (int, error) {
	found := -1
	err := t.probe(key, func(slot int, buf *[slotSize]byte) (bool, error) {
		if isKey(buf, key) {
			found = slot
		}
		return found >= 0, nil
	})
	return found, err
}

// probe calls each for the slots where a key may be, until that has enough or
// one was never used, which it is called for too.
func (t *table) probe(key string, each func(slot int, buf *[slotSize]byte) (enough bool, err error)) error {
	var buf [slotSize]byte
	at := start(key, t.slots)
	for range t.slots {
		if err := t.read(at, &buf); err != nil {
			return err
		}
		if enough, err := each(at, &buf); enough || err != nil || buf[0] == never {
			return err
		}
		if at++; at == t.slots {
			at = 0
		}
	}
	return nil
}

// alloc gives the slot of a key and, if it has none, gives it one that nobody
// has locked.
func (t *table) alloc(key string) (int, error) {
	if err := t.change(); err != nil {
		return -1, err
	}
	defer func() { _ = t.lock(unix.F_OFD_SETLK, unix.F_UNLCK, allocByte, 1) }()
	found, usable := -1, -1
	err := t.probe(key, func(slot int, buf *[slotSize]byte) (bool, error) {
		if isKey(buf, key) {
			found = slot
			return true, nil
		}
		if usable < 0 && (buf[0] == free || buf[0] == never) {
			// Whoever has forgotten it may not have released it yet.
			locked, err := t.locked(slot)
			if err != nil {
				return true, err
			}
			if !locked {
				usable = slot
			}
		}
		return false, nil
	})
	if err != nil || found >= 0 {
		return found, err
	}
	if usable < 0 {
		return -1, errExhausted
	}
	return usable, t.write(usable, byte(len(key)), key)
}

var errExhausted = errors.New("exhausted")

// forget frees the slot of a key, and those freed before it if a slot that was
// never used comes next, so that the ways to keys stay short.
func (t *table) forget(key string) error {
	if err := t.change(); err != nil {
		return err
	}
	defer func() { _ = t.lock(unix.F_OFD_SETLK, unix.F_UNLCK, allocByte, 1) }()
	slot, err := t.find(key)
	if err != nil || slot < 0 {
		return err
	}
	if err := t.write(slot, free, ""); err != nil {
		return err
	}
	var buf [slotSize]byte
	err = t.read((slot+1)%t.slots, &buf)
	for n := 0; err == nil && buf[0] == never && n < t.slots; n++ {
		if err := t.read(slot, &buf); err != nil || buf[0] != free {
			return err
		}
		// One that is locked still can be given to nobody: the ways have to
		// lead past it.
		if locked, err := t.locked(slot); err != nil || locked {
			return err
		}
		buf[0] = never
		err = t.write(slot, never, "")
		slot = (slot + t.slots - 1) % t.slots
	}
	return err
}

// patience is how long a change of the table waits for others, which take
// microseconds unless somebody has stopped them.
const patience = 10 * time.Second

// change takes the right to change the table.
func (t *table) change() error { return t.poll(allocByte, 1) }

func (t *table) poll(from, n int64) error {
	deadline := time.Now().Add(patience)
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		err := t.lock(unix.F_OFD_SETLK, unix.F_WRLCK, from, n)
		if err != unix.EAGAIN && err != unix.EACCES || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

// keys lists the objects that have a slot.
func (t *table) keys() (all []lock.Object, err error) {
	var buf [slotSize]byte
	for slot := range t.slots {
		if err := t.read(slot, &buf); err != nil {
			return nil, err
		}
		if n := int(buf[0]); n != never && n != free {
			kind, id, _ := strings.Cut(string(buf[1:1+n]), "-")
			if k := lock.KindOf(kind); k != 0 && id != "" {
				all = append(all, lock.Object{Kind: k, ID: id})
			}
		}
	}
	return all, nil
}

// create makes a table with so many slots, those of some objects taken. It
// appears whole; to replace an old one is for who has all of that locked.
func create(dir string, slots int, objects []lock.Object, replace bool) error {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	t := &table{fd: fd, slots: slots}
	var header [slotSize]byte
	copy(header[:], magic)
	binary.LittleEndian.PutUint32(header[len(magic):], uint32(slots))
	if _, err := unix.Pwrite(fd, header[:], 0); err != nil {
		return err
	}
	if err := unix.Ftruncate(fd, int64(slots+1)*slotSize); err != nil {
		return err
	}
	for _, o := range objects {
		key, err := key(o.Kind, o.ID)
		if err != nil {
			return err
		}
		if _, err := t.alloc(key); err != nil {
			return err
		}
	}
	path := filepath.Join(dir, tableName)
	if !replace {
		return link(fd, path)
	}
	if err := os.Remove(path + ".new"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := link(fd, path+".new"); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// link names a file that has none, open(2).
func link(fd int, path string) error {
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
}

// fault gives an errno its kind.
func fault(path string, err error) error {
	kind := cove.Internal
	switch {
	case errors.Is(err, os.ErrPermission), errors.Is(err, unix.ELOOP):
		kind = cove.Denied
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.ENOLCK):
		kind = cove.Unavailable
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		kind, err = cove.Unavailable, fmt.Errorf("another process keeps it locked: %w", err)
	}
	return cove.E("open lock table", path, kind, err)
}

func eintr(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
