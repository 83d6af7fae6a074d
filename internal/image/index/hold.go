package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Hold keeps images from being removed by cove until release is called:
// whoever makes a container holds from before it resolves the image until the
// container's record is durable. Any number may hold at once.
func Hold(ctx context.Context, dir string) (release func() error, err error) {
	return take(ctx, dir, syscall.LOCK_SH)
}

// Own waits until nobody holds and keeps new holders out until release is
// called: removing an image asks who uses it, and removes it, while it owns.
func Own(ctx context.Context, dir string) (release func() error, err error) {
	return take(ctx, dir, syscall.LOCK_EX)
}

// TryOwn is Own for who does not wait: somebody who holds makes release nil.
func TryOwn(dir string) (release func() error, err error) {
	f, err := open(dir)
	if err != nil {
		return nil, err
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err {
	case nil:
		return f.Close, nil
	case syscall.EWOULDBLOCK:
		return nil, f.Close()
	default:
		return nil, errors.Join(&fs.PathError{Op: "lock", Path: f.Name(), Err: err}, f.Close())
	}
}

// take takes the lock file of dir.
func take(ctx context.Context, dir string, how int) (func() error, error) {
	f, err := open(dir)
	if err != nil {
		return nil, err
	}
	if err := Lock(ctx, int(f.Fd()), f.Name(), how, Patience); err != nil {
		f.Close()
		return nil, err
	}
	return f.Close, nil
}

func open(dir string) (*os.File, error) {
	err := os.MkdirAll(dir, 0o700)
	if st, serr := os.Stat(dir); err != nil && serr == nil && !st.IsDir() {
		_ = syscall.Unlink(dir)
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, "lock")
	f, err := OpenFile(name, os.O_RDWR|os.O_CREATE)
	if errors.Is(err, syscall.EROFS) {
		return os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	}
	return f, err
}

// OpenFile opens a file of ours in the index's directory, making it by O_CREATE in how. What is in its place and no
// file holds nothing of ours: it is taken away, a directory if it is empty.
func OpenFile(name string, how int) (*os.File, error) {
	const private = syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	f, err := os.OpenFile(name, how|private, 0o600)
	if err == nil {
		st, serr := f.Stat()
		if serr == nil && st.Mode().IsRegular() {
			return f, nil
		}
		_ = f.Close()
		err = cmp.Or(serr, error(&fs.PathError{Op: "open", Path: name, Err: syscall.EINVAL}))
	}
	dir, derr := os.Open(filepath.Dir(name))
	if derr != nil {
		return nil, err
	}
	defer dir.Close()
	// One at a time: what the other has made in its place must stay.
	if derr := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); derr != nil {
		return nil, err
	}
	if st, serr := os.Lstat(name); serr == nil && !st.Mode().IsRegular() && os.Remove(name) != nil {
		return nil, err
	}
	return os.OpenFile(name, how|private, 0o600)
}

// Patience is long enough for the removal of big images on a slow disk. Who has
// not got a lock by then waits for a process that somebody has stopped.
const Patience = 10 * time.Minute

// Lock waits for the flock of the file fd, of that name, until ctx ends, or for so
// long. The kernel gives the lock back when the process dies. It polls, for
// flock(2) cannot be given a deadline.
func Lock(ctx context.Context, fd int, name string, how int, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := syscall.Flock(fd, how|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case err != syscall.EWOULDBLOCK && err != syscall.EINTR:
		case time.Now().After(deadline):
			err = fmt.Errorf("%s has held it for %s", holder(fd), patience)
		default:
			select {
			case <-ctx.Done():
				err = context.Cause(ctx)
			case <-time.After(wait):
				continue
			}
		}
		return &fs.PathError{Op: "lock", Path: name, Err: err}
	}
}

// holder names who has the flock of a file, as far as the kernel tells, proc_locks(5).
func holder(fd int) string {
	const unknown = "another process"
	var st syscall.Stat_t
	locks, err := os.ReadFile("/proc/locks")
	if err != nil || syscall.Fstat(fd, &st) != nil {
		return unknown
	}
	// 1: FLOCK  ADVISORY  WRITE 708 00:13:8590 0 EOF
	for line := range strings.Lines(string(locks)) {
		field := strings.Fields(line)
		if len(field) != 8 || field[1] != "FLOCK" || !strings.HasSuffix(field[5], ":"+strconv.FormatUint(st.Ino, 10)) {
			continue
		}
		if name, err := os.Readlink("/proc/" + field[4] + "/exe"); err == nil {
			return fmt.Sprintf("process %s (%s)", field[4], filepath.Base(name))
		}
	}
	return unknown
}
