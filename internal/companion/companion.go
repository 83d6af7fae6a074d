// Package companion holds the programs that cove carries inside itself, so
// that one file is all there is to install, and puts them where they can be
// executed.
package companion

import (
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/ownplace"
)

// Carried is a program packed into this one: files/NAME.gz, and its checksum
// in files/NAME.sum. Each has a package of its own, so that a program carries
// no more than it needs.
type Carried struct {
	Name  string
	Files fs.ReadFileFS
}

// Open gives the program's bytes. The caller closes it.
func (c Carried) Open() (io.ReadCloser, error) {
	packed, err := c.Files.Open("files/" + c.Name + ".gz")
	if err != nil {
		return nil, cove.E("find", c.Name, cove.NoFile, errors.New("this cove was built without it: make build puts it in"))
	}
	return gzip.NewReader(packed)
}

// Path gives the program's path in the first of dirs that serves, where it is put
// if need be. Its file name carries its checksum, so releases do not get in each
// other's way, and it is used only if nobody but this user and root could have
// written it. elsewhere are directories to look in when it is not carried.
func (c Carried) Path(dirs, elsewhere []string) (string, error) {
	sum, err := c.Files.ReadFile("files/" + c.Name + ".sum")
	if err != nil {
		return installed(c.Name, elsewhere)
	}
	var why error
	for _, dir := range dirs {
		err := usable(dir)
		switch {
		case err == nil:
			return c.in(dir, strings.TrimSpace(string(sum)))
		case why == nil:
			why = err
		default:
			why = fmt.Errorf("%w; %w", why, err)
		}
	}
	return "", cove.E("unpack", c.Name, cove.Denied, why)
}

// in gives the program's path in dir, where it is put if need be.
func (c Carried) in(dir, want string) (string, error) {
	path := filepath.Join(dir, c.Name+"-"+want[:min(16, len(want))])
	if trusted(path) {
		return path, nil
	}
	if err := c.unpack(dir, path, want); err != nil {
		return "", cove.E("unpack", path, cove.Internal, err)
	}
	return path, nil
}

// InMemory gives a path by which this process can execute the program, for when the
// disk takes no more: what makes room there may need it.
func (c Carried) InMemory() (string, error) {
	in, err := c.Open()
	if err != nil {
		return "", err
	}
	defer in.Close()
	fd, err := unix.MemfdCreate(c.Name, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate(c.Name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return "", cove.E("unpack", c.Name, cove.Internal, err)
	}
	out := os.NewFile(uintptr(fd), c.Name)
	defer out.Close()
	// What is open for writing cannot be executed.
	read, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = io.Copy(out, in)
	}
	if err != nil {
		return "", cove.E("unpack", c.Name, cove.Internal, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", read), nil
}

// installed finds a program that a package has put into one of the folders.
func installed(name string, dirs []string) (string, error) {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", cove.E("find", name, cove.NoFile, errors.New("this cove was built without it (make build puts it in), and it is in none of helper_binaries_dir"))
}

// trusted tells whether the file can be executed as it is. Only a whole one is
// ever there: it is renamed into place.
func trusted(path string) bool {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return false
	}
	owner := st.Uid == 0 || int(st.Uid) == os.Geteuid()
	return owner && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o022 == 0 && st.Mode&0o100 != 0
}

// unpack writes the program beside its place, checks it and renames it.
func (c Carried) unpack(dir, path, want string) (err error) {
	if err := ownplace.Directory(dir); err != nil {
		return err
	}
	in, err := c.Open()
	if err != nil {
		return err
	}
	defer in.Close()
	// A process forked by another goroutine in the meantime would hold the file
	// open for writing for a moment, and it could not be executed (ETXTBSY).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	temp := path + ".new-" + rand.Text()[:8]
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o700)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
		}
	}()
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, hash), in)
	if err == nil {
		err = out.Sync() // its name is believed after a crash, too
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want {
		return fmt.Errorf("checksum is %s, not %s", got, want)
	}
	if err = os.Chmod(temp, 0o755); err != nil {
		return err
	}
	if err = ownplace.Clear(path); err != nil { // no file takes a directory's place
		return err
	}
	if err = os.Rename(temp, path); err == nil {
		c.sweep(dir, path)
	}
	return err
}

// kept is how long the program of another release stays after it was put here,
// and one that was never finished. Who still needs it puts it here again.
const kept = 7 * 24 * time.Hour

// sweep removes what older releases, and those that were killed while they
// unpacked, have left beside path.
func (c Carried) sweep(dir, path string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		at := filepath.Join(dir, e.Name())
		info, err := e.Info()
		if err == nil && at != path && strings.HasPrefix(e.Name(), c.Name+"-") && info.Mode().IsRegular() && time.Since(info.ModTime()) > kept {
			_ = os.Remove(at)
		}
	}
}
