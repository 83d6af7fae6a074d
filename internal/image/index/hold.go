package index

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Hold keeps images from being removed by cove until release is called:
// whoever makes a container holds from before it resolves the image until the
// container's record is durable. Any number may hold at once.
func Hold(ctx context.Context, dir string) (release func() error, err error) {
	return flock(ctx, dir, syscall.LOCK_SH)
}

// Own waits until nobody holds and keeps new holders out until release is
// called: removing an image asks who uses it, and removes it, while it owns.
func Own(ctx context.Context, dir string) (release func() error, err error) {
	return flock(ctx, dir, syscall.LOCK_EX)
}

// flock takes the lock file of dir. The kernel gives the lock back when the
// process dies. It polls, for flock(2) cannot be given a deadline.
func flock(ctx context.Context, dir string, how int) (func() error, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err == nil {
			return f.Close, nil
		}
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			f.Close()
			return nil, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, &os.PathError{Op: "lock", Path: f.Name(), Err: context.Cause(ctx)}
		case <-time.After(wait):
		}
	}
}
