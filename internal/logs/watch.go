package logs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// watcher tells when something may have happened in the log's directory. The
// directory is watched, not the file: a rotated log is another file.
type watcher struct{ file *os.File }

func watch(path string) (*watcher, error) {
	dir := filepath.Dir(path)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	const what = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, dir, what); err != nil {
		return nil, errors.Join(&os.PathError{Op: "watch", Path: dir, Err: err}, unix.Close(fd))
	}
	return &watcher{os.NewFile(uintptr(fd), "inotify")}, nil
}

// wait returns when the directory changed, ctx ended or at most after most.
func (w *watcher) wait(ctx context.Context, most time.Duration) error {
	if err := w.file.SetReadDeadline(time.Now().Add(most)); err != nil {
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

func (w *watcher) close() { _ = w.file.Close() }
