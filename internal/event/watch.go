package event

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
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	const what = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, dir, what); err != nil {
		return nil, errors.Join(os.NewSyscallError("inotify_add_watch", err), unix.Close(fd))
	}
	return &watcher{os.NewFile(uintptr(fd), "inotify")}, nil
}

// wait returns when the directory changed or ctx ended.
func (w *watcher) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = w.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var buf [4096]byte // what changed is not looked at: only that something did
	if _, err := w.file.Read(buf[:]); err != nil && ctx.Err() == nil {
		return err
	}
	return ctx.Err()
}

func (w *watcher) close() { _ = w.file.Close() }
