// Package interrupt is what SIGINT and SIGTERM do to a command: the first one
// ends its context, so that what is under way is undone and told; the second
// one ends the process at once, and so does the first one when undoing takes
// too long. Being killed is safe at any time: this is for tidiness, and for
// terminals, which a killed command would leave in raw mode.
package interrupt

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// grace is what a command gets to undo what it was doing.
const grace = 5 * time.Second

var (
	// elsewhere counts those who take the signals as their own.
	elsewhere atomic.Int32
	// asking counts those who wait for a person.
	asking atomic.Int32

	// mu guards who listens. heard is the signal that has ended the context.
	mu        sync.Mutex
	listening chan os.Signal
	left      bool
	heard     atomic.Int32
)

// caught is the cause of a context that a signal has ended.
type caught struct{ signal syscall.Signal }

func (c caught) Error() string { return "interrupted by " + unix.SignalName(c.signal) }

func (c caught) Is(err error) bool { return err == context.Canceled }

// Context gives the context of a command. Signals are listened to after a
// moment: asking for them costs a thread, and a command that has not lived that
// long has nothing to undo that being killed would not.
func Context(after time.Duration) context.Context {
	ctx, end := context.WithCancelCause(context.Background())
	if after == 0 {
		listen(end)
	} else {
		time.AfterFunc(after, func() { listen(end) })
	}
	return ctx
}

func listen(end context.CancelCauseFunc) {
	mu.Lock()
	defer mu.Unlock()
	if left {
		return
	}
	ch := make(chan os.Signal, 2) // both at once: what finds no room is lost
	listening = ch
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM} {
		if !signal.Ignored(s) { // as nohup and shells' background jobs are
			signal.Notify(ch, s)
		}
	}
	go func() {
		for s := range ch {
			switch s := s.(syscall.Signal); {
			case asking.Load() > 0:
				die(s)
			case elsewhere.Load() == 0:
				heard.Store(int32(s))
				signal.Stop(ch) // the next one ends the process, and what was on its way has come
				select {
				case second := <-ch:
					die(second.(syscall.Signal))
				default:
				}
				end(caught{s})
				time.AfterFunc(grace, func() { die(s) })
				return
			}
		}
	}()
}

// Leave is for who is about to let another program take this one's place, which
// would not know of a signal that has been caught: that ends the process. One that
// comes from now on ends it, too, this program or the other.
func Leave() {
	mu.Lock()
	defer mu.Unlock()
	left = true
	if listening != nil {
		signal.Stop(listening) // and what was on its way has come
		select {
		case s := <-listening:
			die(s.(syscall.Signal))
		default:
		}
	}
	if s := heard.Load(); s != 0 {
		die(syscall.Signal(s))
	}
}

// Forward leaves the signals to somebody who passes them on to a container,
// until back is called.
func Forward() (back func()) {
	elsewhere.Add(1)
	return func() { elsewhere.Add(-1) }
}

// Ask lets the signals end the process at once while a person is waited for.
func Ask() (back func()) {
	asking.Add(1)
	return func() { asking.Add(-1) }
}

// Exit ends the process with code, or by the signal that has ended ctx: shells
// tell the two apart.
func Exit(ctx context.Context, code int) {
	if c, ok := errors.AsType[caught](context.Cause(ctx)); ok {
		die(c.signal)
	}
	os.Exit(code)
}

// die ends the process as the signal does to one that does not catch it.
func die(s syscall.Signal) {
	signal.Reset(s)
	_ = unix.Kill(os.Getpid(), s)
	time.Sleep(time.Second) // it comes to another thread, perhaps
	os.Exit(128 + int(s))
}
