package logfile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Watcher tells when something may have happened to a log. Its directory is
// watched, not the file: a rotated log is another file.
type Watcher struct{ file *os.File }

// Watch watches the directory of the log at path, which must be there.
func Watch(path string) (*Watcher, error) {
	dir := filepath.Dir(path)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	const what = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, dir, what); err != nil {
		return nil, errors.Join(&os.PathError{Op: "watch", Path: dir, Err: err}, unix.Close(fd))
	}
	return &Watcher{os.NewFile(uintptr(fd), "inotify")}, nil
}

// Wait returns when the directory has changed, or ctx has ended, whose error it
// gives, or after most unless that is 0.
func (w *Watcher) Wait(ctx context.Context, most time.Duration) error {
	var until time.Time
	if most > 0 {
		until = time.Now().Add(most)
	}
	if err := w.file.SetReadDeadline(until); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var buf [4096]byte // what changed is not looked at: only that something did
	if _, err := w.file.Read(buf[:]); err != nil && ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return ctx.Err()
}

// Close ends the watch.
func (w *Watcher) Close() { _ = w.file.Close() }
