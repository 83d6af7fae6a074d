// Package runfile reads and writes a container's run file: the one durable
// record that the container's monitor keeps, in the container's own
// directory. The monitor is its only writer while it lives, and shows by a
// lock on this file (flock(2), kept with the descriptor that it was handed)
// that it does; without a monitor, the holder of the container's lock is.
//
// The file has two slots of [slotSize] bytes. A record is written over the
// older one, so a reader, or whoever comes after a power loss in the middle of
// a write, finds the one before. Both slots have their place on the disk from
// the beginning: a full disk does not keep an exit from being recorded. A slot
// is one line "cove-run VERSION SEQUENCE CRC32 LENGTH" and LENGTH bytes of JSON
// ([cove.Run]); the checksum is that of the sequence number in decimal and the
// JSON. A file of which nothing can be read is reported, never guessed at.
//
// Behind the slots stands what the Go runtime says when the monitor dies of a
// panic or a fatal error ([File.TakeLastWords]): it writes with write(2), for
// which nothing else uses the descriptor's offset.
//
// It is imported by the monitor's program: standard library and x/sys only.
package runfile

import (
	"bytes"
	"errors"
	"hash/crc32"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/coldjson"
	"github.com/cove-engine/cove/internal/syncdir"
)

// Name is the file's name in the container's directory.
const Name = "run"

const (
	magic    = "cove-run"
	version  = 1
	slotSize = 32 << 10
)

// ErrDamaged tells that the file is there and holds nothing that was written.
var ErrDamaged = errors.New("run file is damaged")

// File is a run file that may be written to.
type File struct {
	fd   int
	next uint64 // the sequence number of the next record
	// words is the same descriptor. It is kept, or the collector would close it.
	words *os.File
}

// Open opens the run file in directory dir, and makes it if it is not there. What
// is there and no file gets the name "run.damaged".
func Open(dir string) (*File, error) {
	fd, err := openIn(dir, unix.O_RDWR|unix.O_CREAT)
	if errors.Is(err, ErrDamaged) {
		if err = putAway(dir); err == nil {
			fd, err = openIn(dir, unix.O_RDWR|unix.O_CREAT)
		}
	}
	if err != nil {
		return nil, err
	}
	return Attach(fd), nil
}

// putAway gives what is in the run file's place another name: one with a number where what
// has the first one cannot be replaced by it.
func putAway(dir string) error {
	name := dir + "/" + Name
	away := name + ".damaged"
	for n := 2; ; n++ {
		err := unix.Rename(name, away)
		switch err {
		case nil:
			return nil
		case unix.EEXIST, unix.ENOTEMPTY, unix.EISDIR, unix.ENOTDIR:
		default:
			n = mostPutAway
		}
		if n >= mostPutAway {
			return &os.PathError{Op: "put away", Path: name, Err: err}
		}
		away = name + ".damaged." + strconv.Itoa(n)
	}
}

// mostPutAway is how many are kept: nobody does that by mistake.
const mostPutAway = 10

// openIn opens it, and waits for nobody. What is there and no file is [ErrDamaged].
func openIn(dir string, how int) (int, error) {
	name := dir + "/" + Name
	fd, err := unix.Open(name, how|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	switch err {
	case nil:
	case unix.ELOOP, unix.EISDIR, unix.ENXIO, unix.ENOTDIR:
		return -1, ErrDamaged
	default:
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		return -1, ErrDamaged
	}
	return fd, nil
}

// Attach makes a File of an open descriptor, which from now on belongs to it.
func Attach(fd int) *File {
	f := &File{fd: fd}
	if seq, _, err := newest(fd); err == nil {
		f.next = seq + 1
	}
	return f
}

// FD is the file's descriptor.
func (f *File) FD() int { return f.fd }

// Reserve takes the room on the disk that later records need. Where the file
// system cannot, nothing changes; a full one is an error.
func (f *File) Reserve() error {
	for {
		switch err := unix.Fallocate(f.fd, 0, 0, 2*slotSize); err {
		case unix.EINTR:
		case nil, unix.EOPNOTSUPP, unix.ENOSYS:
			return nil
		default:
			return &os.PathError{Op: "reserve room for", Path: Name, Err: err}
		}
	}
}

// wordsAt is where last words stand, and wordsMax how much of them is read: the
// reason and some thirty frames.
const (
	wordsAt  = 2 * slotSize
	wordsMax = 4 << 10
)

// TakeLastWords has the Go runtime write to the file why this process dies,
// when it is the runtime that ends it.
func (f *File) TakeLastWords() error {
	if _, err := unix.Seek(f.fd, wordsAt, unix.SEEK_SET); err != nil {
		return &os.PathError{Op: "seek in", Path: Name, Err: err}
	}
	if f.words == nil {
		f.words = os.NewFile(uintptr(f.fd), Name)
	}
	return debug.SetCrashOutput(f.words, debug.CrashOptions{})
}

// DropLastWords forgets those of the monitor before.
func (f *File) DropLastWords() error {
	var st unix.Stat_t
	err := unix.Fstat(f.fd, &st)
	if err == nil && st.Size > wordsAt {
		err = unix.Ftruncate(f.fd, wordsAt)
	}
	if err != nil {
		return &os.PathError{Op: "truncate", Path: Name, Err: err}
	}
	return nil
}

// LastWords gives what the monitor of directory dir said when it died, as one
// line: the reason, and where the goroutine was that ran; "" when that was
// nothing.
func LastWords(dir string) string {
	fd, err := openIn(dir, unix.O_RDONLY)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	data := make([]byte, wordsMax)
	n, _ := readAt(fd, data, wordsAt)
	var lines []string
	goroutines := 0
	for line := range strings.Lines(strings.ToValidUTF8(string(data[:n]), "")) {
		if strings.HasPrefix(line, "goroutine ") {
			goroutines++
		}
		if goroutines > 1 {
			break
		}
		if line = strings.TrimSpace(strings.Map(printable, line)); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

// printable turns a control character into a space: a panic's reason is anybody's
// text, and goes to terminals.
func printable(r rune) rune {
	if unicode.IsControl(r) {
		return ' '
	}
	return r
}

// Write records run. durable makes it survive a power loss.
func (f *File) Write(run *cove.Run, durable bool) error {
	data, err := encode(run, f.next)
	if err != nil {
		return err
	}
	n, err := unix.Pwrite(f.fd, data, int64(f.next%2)*slotSize)
	if err == nil && n != len(data) {
		err = unix.ENOSPC
	}
	if err == nil && durable {
		err = unix.Fdatasync(f.fd)
	}
	if err != nil {
		return &os.PathError{Op: "write", Path: Name, Err: err}
	}
	f.next++
	return nil
}

// Renew is Write. If the file has not its name in directory dir any more, it does so in
// a new one, which has the lock that shows that this process lives when it gets the name.
func (f *File) Renew(dir string, run *cove.Run, durable bool) error {
	name := dir + "/" + Name
	var mine, named unix.Stat_t
	if err := unix.Fstat(f.fd, &mine); err != nil {
		return &os.PathError{Op: "stat", Path: Name, Err: err}
	}
	err := unix.Lstat(name, &named)
	if err == nil && mine.Dev == named.Dev && mine.Ino == named.Ino {
		return f.Write(run, durable)
	}
	if err == nil && named.Mode&unix.S_IFMT == unix.S_IFDIR { // no file takes its place
		if err := putAway(dir); err != nil {
			return err
		}
	}
	temporary := name + ".new"
	_ = unix.Unlink(temporary)
	fd, err := unix.Open(temporary, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "make", Path: temporary, Err: err}
	}
	defer unix.Close(fd)
	fresh := &File{fd: fd, next: f.next}
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = errors.Join(fresh.Reserve(), fresh.Write(run, durable))
	}
	if err == nil {
		err = os.Rename(temporary, name)
	}
	if err == nil {
		err = unix.Dup3(fd, f.fd, unix.O_CLOEXEC)
	}
	if err != nil {
		_ = unix.Unlink(temporary)
		return err
	}
	f.next = fresh.next
	if f.words != nil {
		_ = f.TakeLastWords() // it may run without
	}
	if durable { // its name, too, and that of a directory made anew
		return errors.Join(syncdir.Sync(dir), syncdir.Sync(dir+"/.."))
	}
	return nil
}

// Read gives the last record, also of a file whose name is gone.
func (f *File) Read() (*cove.Run, error) {
	seq, run, err := newest(f.fd)
	if err == nil {
		f.next = seq + 1
	}
	return run, err
}

// ReadGeneration gives the last record of one run, if it is one of the two that the
// file holds: the run that follows it begins with the other.
func (f *File) ReadGeneration(generation uint64) (*cove.Run, error) {
	_, run, err := latest(f.fd, func(r *cove.Run) bool { return r.Generation == generation })
	return run, err
}

// Close closes the descriptor; a lock on it goes with its last copy.
func (f *File) Close() { _ = unix.Close(f.fd) }

// LetGo ends the lock on the file, whoever else has the descriptor, and closes it:
// it is another monitor's from here on. Nothing is written any more, last words
// neither.
func (f *File) LetGo() {
	_ = debug.SetCrashOutput(nil, debug.CrashOptions{})
	_ = unix.Flock(f.fd, unix.LOCK_UN)
	if f.words != nil {
		_ = f.words.Close() // the same descriptor
	} else {
		f.Close()
	}
	f.fd = -1
}

// encode makes a slot's content. What does not fit gives way: first the execs,
// the older half and so on, then the log of the health checks in the same way, then
// the text of an error.
func encode(run *cove.Run, seq uint64) ([]byte, error) {
	const room = slotSize - 100 // the head line is shorter
	body, err := coldjson.Marshal(run)
	if err != nil {
		return nil, err
	}
	short := *run
	for len(body) > room && len(short.Execs) > 0 {
		short.Execs = short.Execs[(len(short.Execs)+1)/2:]
		if body, err = coldjson.Marshal(&short); err != nil {
			return nil, err
		}
	}
	for len(body) > room && short.Health != nil && len(short.Health.Log) > 0 {
		h := *short.Health
		h.Log, short.Health = h.Log[(len(h.Log)+1)/2:], &h
		if body, err = coldjson.Marshal(&short); err != nil {
			return nil, err
		}
	}
	if len(body) > room {
		short.Error = strings.ToValidUTF8(short.Error[:min(len(short.Error), room/8)], "")
		if body, err = coldjson.Marshal(&short); err != nil {
			return nil, err
		}
	}
	number := strconv.FormatUint(seq, 10)
	head := magic + " " + strconv.Itoa(version) + " " + number + " " +
		strconv.FormatUint(uint64(checksum(number, body)), 16) + " " + strconv.Itoa(len(body)) + "\n"
	return append([]byte(head), body...), nil
}

func checksum(number string, body []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE([]byte(number)), crc32.IEEETable, body)
}

// Read returns the run recorded in directory dir. A file that is absent, or
// that nothing was written to yet, gives [os.ErrNotExist], a damaged one
// [ErrDamaged].
func Read(dir string) (*cove.Run, error) {
	fd, err := openIn(dir, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	_, run, err := newest(fd)
	return run, err
}

// newest reads both slots and gives the later record.
func newest(fd int) (seq uint64, run *cove.Run, err error) {
	return latest(fd, func(*cove.Run) bool { return true })
}

// latest gives the later one of the records that are wanted.
func latest(fd int, want func(*cove.Run) bool) (seq uint64, run *cove.Run, err error) {
	err = os.ErrNotExist
	for slot := range int64(2) {
		s, r, derr := readSlot(fd, slot, make([]byte, 1024))
		if errors.Is(derr, ErrDamaged) { // perhaps for being longer, which few are
			s, r, derr = readSlot(fd, slot, make([]byte, slotSize))
		}
		if failed := new(os.PathError); errors.As(derr, &failed) {
			return 0, nil, derr
		}
		switch {
		case derr == nil && want(r) && (run == nil || s > seq):
			seq, run, err = s, r, nil
		case derr != nil && run == nil && !errors.Is(derr, os.ErrNotExist):
			err = derr
		}
	}
	return seq, run, err
}

// readSlot decodes as much of a slot as data has room for.
func readSlot(fd int, slot int64, data []byte) (seq uint64, run *cove.Run, err error) {
	n, err := readAt(fd, data, slot*slotSize)
	if err != nil {
		return 0, nil, &os.PathError{Op: "read", Path: Name, Err: err}
	}
	return Decode(data[:n])
}

func readAt(fd int, p []byte, offset int64) (int, error) {
	n := 0
	for n < len(p) {
		m, err := unix.Pread(fd, p[n:], offset+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

// Decode reads a slot's content, which may be followed by anything. A slot that
// was never written to gives [os.ErrNotExist].
func Decode(data []byte) (seq uint64, run *cove.Run, err error) {
	if len(data) == 0 || data[0] == 0 {
		return 0, nil, os.ErrNotExist
	}
	line, rest, ok := bytes.Cut(data, []byte("\n"))
	fields := strings.Fields(string(line))
	if !ok || len(line) > 100 || len(fields) != 5 || fields[0] != magic {
		return 0, nil, ErrDamaged
	}
	if v, err := strconv.Atoi(fields[1]); err != nil || v > version {
		return 0, nil, cove.E("read run file", "", cove.Unsupported, errors.New("written by a newer cove (format "+fields[1]+")"))
	}
	seq, err = strconv.ParseUint(fields[2], 10, 64)
	sum, serr := strconv.ParseUint(fields[3], 16, 32)
	length, lerr := strconv.Atoi(fields[4])
	if err != nil || serr != nil || lerr != nil || length < 0 || length > len(rest) || uint32(sum) != checksum(fields[2], rest[:length]) {
		return 0, nil, ErrDamaged
	}
	run = new(cove.Run)
	if err := coldjson.Unmarshal(rest[:length], run); err != nil {
		return 0, nil, ErrDamaged
	}
	return seq, run, nil
}
