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

	"github.com/cove-engine/cove/internal/interrupt/early"
)

// grace is what a command gets to undo what it was doing. Tests change it.
var grace = 5 * time.Second

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

	// command is the context of [Context], and end is what ends it.
	command context.Context
	end     context.CancelCauseFunc
)

// caught is the cause of a context that a signal has ended.
type caught struct{ signal syscall.Signal }

func (c caught) Error() string { return "interrupted by " + unix.SignalName(c.signal) }

func (c caught) Is(err error) bool { return err == context.Canceled }

// Context gives the context of a command. Signals are listened to after a
// moment: asking for them costs a thread. Until then they end the command at once,
// and are taken note of from [Note] on.
func Context(after time.Duration) context.Context {
	command, end = context.WithCancelCause(context.Background())
	if after == 0 {
		listen()
	} else {
		time.AfterFunc(after, listen)
	}
	return command
}

// Note has signals wait until they are listened to: it is for who is about to make
// something that would have to be undone.
func Note() {
	mu.Lock()
	defer mu.Unlock()
	if listening != nil {
		return
	}
	for _, s := range []syscall.Signal{unix.SIGINT, unix.SIGTERM} {
		if !signal.Ignored(s) {
			early.Note(s)
		}
	}
}

// Hear ends the command's context by a signal that was taken note of, without
// waiting for the moment at which signals are listened to.
func Hear() {
	if early.Noted() == 0 {
		return
	}
	listen()
	// Whose taking note was under way on another thread as somebody began to listen
	// has done so after that, and told nobody.
	if s := early.End(); s != 0 {
		interrupted(s)
	}
	if elsewhere.Load() == 0 { // else it is not the command's
		<-command.Done()
	}
}

// interrupted ends the command's context by a signal.
func interrupted(s syscall.Signal) {
	heard.Store(int32(s))
	end(caught{s})
	time.AfterFunc(grace, func() { die(s) })
}

func listen() {
	mu.Lock()
	defer mu.Unlock()
	if left || listening != nil {
		return
	}
	ch := make(chan os.Signal, 3) // an early one and both at once: what finds no room is lost
	listening = ch
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM} {
		if !signal.Ignored(s) { // as nohup and shells' background jobs are
			signal.Notify(ch, s)
		}
	}
	if s := early.End(); s != 0 {
		ch <- s
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
				interrupted(s)
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
	if s := early.End(); s != 0 {
		die(s)
	}
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

// Forward gives signals, with one that has come early, to somebody who passes them
// on to a container, until back is called.
func Forward(to chan<- os.Signal, signals ...os.Signal) (back func()) {
	elsewhere.Add(1)
	signal.Notify(to, signals...)
	if s := early.End(); s != 0 {
		to <- s
	}
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
	if s := early.End(); s != 0 {
		die(s)
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
