// Package runfile reads and writes a container's run file: the one durable
// record that the container's monitor keeps, in the container's own
// directory. The monitor is its only writer while it lives; without a
// monitor, the holder of the container's lock is.
//
// The file is one line "cove-run VERSION CRC32 LENGTH" and LENGTH bytes of
// JSON ([cove.Run]). It is replaced by rename, so a reader sees one version
// whole or the other. A file that is damaged all the same is reported, never
// guessed at.
//
// It is imported by the monitor's program: standard library and x/sys only.
package runfile

import (
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// Name is the file's name in the container's directory.
const Name = "run"

const (
	magic   = "cove-run"
	version = 1
	limit   = 1 << 20 // more than any monitor writes
)

// ErrDamaged tells that the file is there and not as it was written.
var ErrDamaged = errors.New("run file is damaged")

// Write replaces the run file in the directory dirfd. durable makes it
// survive a power loss.
func Write(dirfd int, run *cove.Run, durable bool) error {
	body, err := json.Marshal(run)
	if err != nil {
		return err
	}
	head := magic + " " + strconv.Itoa(version) + " " +
		strconv.FormatUint(uint64(crc32.ChecksumIEEE(body)), 16) + " " + strconv.Itoa(len(body)) + "\n"
	const temp = Name + ".new"
	fd, err := unix.Openat(dirfd, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "open", Path: temp, Err: err}
	}
	data := append([]byte(head), body...)
	n, err := unix.Write(fd, data)
	if err == nil && n != len(data) {
		err = unix.ENOSPC
	}
	if err == nil && durable {
		err = unix.Fdatasync(fd)
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err == nil {
		err = unix.Renameat(dirfd, temp, dirfd, Name)
	}
	if err == nil && durable {
		err = unix.Fsync(dirfd)
	}
	if err != nil {
		_ = unix.Unlinkat(dirfd, temp, 0)
		return &os.PathError{Op: "write", Path: Name, Err: err}
	}
	return nil
}

// Read returns the run recorded in directory dir. An absent file gives
// [os.ErrNotExist], a damaged one [ErrDamaged].
func Read(dir string) (*cove.Run, error) {
	f, err := os.OpenFile(dir+"/"+Name, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, err
	}
	return Decode(data)
}

// Decode reads a run file's content.
func Decode(data []byte) (*cove.Run, error) {
	head, body, ok := strings.Cut(string(data), "\n")
	fields := strings.Fields(head)
	if !ok || len(fields) != 4 || fields[0] != magic {
		return nil, ErrDamaged
	}
	if v, err := strconv.Atoi(fields[1]); err != nil || v > version {
		return nil, cove.E("read run file", "", cove.Unsupported, errors.New("written by a newer cove (format "+fields[1]+")"))
	}
	sum, err := strconv.ParseUint(fields[2], 16, 32)
	if err != nil {
		return nil, ErrDamaged
	}
	if n, err := strconv.Atoi(fields[3]); err != nil || n != len(body) || uint32(sum) != crc32.ChecksumIEEE([]byte(body)) {
		return nil, ErrDamaged
	}
	run := new(cove.Run)
	if err := json.Unmarshal([]byte(body), run); err != nil {
		return nil, ErrDamaged
	}
	return run, nil
}
