package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/state/turnstile"
	"github.com/cove-engine/cove/internal/syncdir"
)

// disk is SQLite's view of the file system: the locked file under a number,
// and its journal.
type disk struct {
	file     *os.File
	path     string
	readOnly bool
	fresh    bool // being made, under no name: what lies beside the name is not its
	number   uint64
	fault    error // the first refusal of the system, which SQLite forgets on its way
}

func (d *disk) journal() string { return journalOf(d.path) }

func journalOf(path string) string { return path + "-journal" }

func removeJournal(path string) error {
	if err := os.Remove(journalOf(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return turnstile.Fault("remove state", journalOf(path), err)
	}
	return nil
}

// hot tells whether the journal holds what a killed writer has to have undone:
// its header is zeroed by a commit.
func (d *disk) hot() bool {
	fd, err := unix.Open(d.journal(), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var first [1]byte
	n, err := unix.Pread(fd, first[:], 0)
	return err == nil && n == 1 && first[0] != 0
}

// The header's fields that check needs, all big endian: the page size at 16 (2
// bytes, 1 means 65536), the counter of changes at 24, the size in pages at 28
// and at 92 the change for which that size is valid.
const headSize = 100

// check refuses what SQLite would take for an empty store, or for one that is
// to grow.
func (d *disk) check() error {
	info, err := d.file.Stat()
	if err != nil {
		return turnstile.Fault("open state", d.path, err)
	}
	var head [headSize]byte
	if _, err := d.file.ReadAt(head[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return turnstile.Fault("open state", d.path, err)
	}
	if d.hot() {
		return nil // the file is in the middle of a change
	}
	if !bytes.HasPrefix(head[:], []byte("SQLite format 3\x00")) {
		return turnstile.Damaged(d.path, fmt.Errorf("no valid header in its %d bytes", info.Size()))
	}
	n := binary.BigEndian
	page := int64(n.Uint16(head[16:]))
	if page == 1 {
		page = 1 << 16
	}
	if pages := int64(n.Uint32(head[28:])); n.Uint32(head[24:]) == n.Uint32(head[92:]) && info.Size() < page*pages {
		return turnstile.Damaged(d.path, fmt.Errorf("truncated: %d bytes of %d", info.Size(), page*pages))
	}
	return nil
}

func (d *disk) close() error {
	// A process being forked may still have the open file.
	_ = unix.Flock(int(d.file.Fd()), unix.LOCK_UN)
	return d.file.Close()
}

// The disks in use, under their numbers.
var (
	disksMu  sync.Mutex
	disks    = map[uint64]*disk{}
	diskLast uint64
)

const vfsName = "cove"

var registerOnce = sync.OnceFunc(func() { vfs.Register(vfsName, system{}) })

// register gives the name by which SQLite opens the disk.
func (d *disk) register() string {
	registerOnce()
	disksMu.Lock()
	defer disksMu.Unlock()
	diskLast++
	d.number = diskLast
	disks[d.number] = d
	return fmt.Sprintf("file:%d?vfs=%s", d.number, vfsName)
}

func (d *disk) unregister() {
	disksMu.Lock()
	defer disksMu.Unlock()
	delete(disks, d.number)
}

// system implements vfs.VFS over the disks.
type system struct{}

// find gives the disk that a name stands for, and whether its journal is meant;
// one that is being made has none.
func find(name string) (d *disk, journal bool) {
	number, journal := strings.CutSuffix(name, "-journal")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return nil, false
	}
	disksMu.Lock()
	defer disksMu.Unlock()
	d = disks[n]
	if d != nil && d.fresh && journal {
		return nil, false
	}
	return d, journal
}

func (system) FullPathname(name string) (string, error) { return name, nil }

func (system) Open(name string, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	d, journal := find(name)
	switch {
	case d == nil:
		return nil, flags, sqlite3.CANTOPEN
	case !journal:
		return &file{File: d.file, disk: d}, flags, nil
	}
	how := unix.O_RDWR | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NOCTTY
	if flags&vfs.OPEN_READWRITE == 0 {
		how = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NOCTTY
	}
	f := &file{disk: d, own: true}
	var err error
	if f.File, err = os.OpenFile(d.journal(), how, 0); errors.Is(err, fs.ErrNotExist) && flags&vfs.OPEN_CREATE != 0 {
		f.File, err = os.OpenFile(d.journal(), how|os.O_CREATE|os.O_EXCL, 0o600)
		f.unnamed = true
	}
	if err != nil {
		return nil, flags, d.remember(vfs.SystemError(err, sqlite3.CANTOPEN), err)
	}
	return f, flags, nil
}

func (system) Delete(name string, syncDir bool) error {
	d, journal := find(name)
	if d == nil || !journal {
		return sqlite3.IOERR_DELETE
	}
	err := os.Remove(d.journal())
	if errors.Is(err, fs.ErrNotExist) {
		return sqlite3.IOERR_DELETE_NOENT
	}
	if err == nil && syncDir {
		err = syncdir.Sync(filepath.Dir(d.journal()))
	}
	if err != nil {
		return d.remember(vfs.SystemError(err, sqlite3.IOERR_DELETE), err)
	}
	return nil
}

func (system) Access(name string, _ vfs.AccessFlag) (bool, error) {
	d, journal := find(name)
	if d == nil || !journal {
		return d != nil && !journal, nil // a "-wal" is never there
	}
	_, err := os.Lstat(d.journal())
	return err == nil, nil
}

// remember keeps the first system error for the answer.
func (d *disk) remember(told, err error) error {
	if d.fault == nil {
		d.fault = err
	}
	return told
}

// file is an open file of SQLite's.
type file struct {
	*os.File
	disk    *disk
	own     bool // the journal; the file itself stays open until it is unlocked
	unnamed bool // its name is not on the disk yet
}

func (f *file) Close() error {
	if f.own {
		return f.File.Close()
	}
	return nil
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if err != nil && err != io.EOF {
		return n, f.disk.remember(vfs.SystemError(err, sqlite3.IOERR_READ), err)
	}
	return n, err
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	if err != nil {
		return n, f.disk.remember(vfs.SystemError(err, sqlite3.IOERR_WRITE), err)
	}
	return n, nil
}

func (f *file) Truncate(size int64) error {
	if err := f.File.Truncate(size); err != nil {
		return f.disk.remember(vfs.SystemError(err, sqlite3.IOERR_TRUNCATE), err)
	}
	return nil
}

func (f *file) Sync(vfs.SyncFlag) error {
	err := f.File.Sync()
	if err == nil && f.unnamed {
		f.unnamed = false
		err = syncdir.Sync(filepath.Dir(f.disk.journal()))
	}
	if err != nil {
		return f.disk.remember(vfs.SystemError(err, sqlite3.IOERR_FSYNC), err)
	}
	return nil
}

func (f *file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// The lock is held already.

func (f *file) Lock(vfs.LockLevel) error         { return nil }
func (f *file) Unlock(vfs.LockLevel) error       { return nil }
func (f *file) CheckReservedLock() (bool, error) { return false, nil }

// A torn write may take what lies beside it with it.

func (f *file) SectorSize() int                                 { return 4096 }
func (f *file) DeviceCharacteristics() vfs.DeviceCharacteristic { return 0 }
