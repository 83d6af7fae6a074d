package serve

import (
	"time"

	"golang.org/x/sys/unix"
)

// loop waits for descriptors and times. Its functions may be called from the
// loop's own callbacks only.
type loop struct {
	epoll    int
	handlers map[int32]func(events uint32)
	timers   []*timer // few: a sorted structure would cost more than it saves
	steps    uint     // so far
}

type timer struct {
	at   time.Time
	call func()
}

func (l *loop) open() (err error) {
	l.handlers = map[int32]func(uint32){}
	l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return err
}

// watch calls f whenever fd has one of the events. It replaces an earlier
// watch of the same descriptor.
func (l *loop) watch(fd int, events uint32, f func(events uint32)) {
	op := unix.EPOLL_CTL_ADD
	if _, known := l.handlers[int32(fd)]; known {
		op = unix.EPOLL_CTL_MOD
	}
	l.handlers[int32(fd)] = f
	_ = unix.EpollCtl(l.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// unwatch ends a watch.
func (l *loop) unwatch(fd int) {
	if _, known := l.handlers[int32(fd)]; known {
		delete(l.handlers, int32(fd))
		_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, fd, nil)
	}
}

// forget ends a watch and closes the descriptor.
func (l *loop) forget(fd int) {
	if fd < 0 {
		return
	}
	l.unwatch(fd)
	_ = unix.Close(fd)
}

// after calls f once, d from now.
func (l *loop) after(d time.Duration, f func()) *timer {
	t := &timer{at: time.Now().Add(d), call: f}
	l.timers = append(l.timers, t)
	return t
}

// cancel forgets a timer; nil is fine.
func (l *loop) cancel(t *timer) {
	for i := range l.timers {
		if l.timers[i] == t {
			l.timers = append(l.timers[:i], l.timers[i+1:]...)
			return
		}
	}
}

// step waits for the next events or the next timer and handles them. A handler
// may take steps itself while it waits for something.
func (l *loop) step() {
	l.steps++
	this := l.steps
	wait := -1
	if next := l.nextTimer(); next != nil {
		// Rounded up: a timer is never early, and never spun for.
		wait = max(0, int((time.Until(next.at)+time.Millisecond-1)/time.Millisecond))
	}
	var events [16]unix.EpollEvent
	n, _ := unix.EpollWait(l.epoll, events[:], wait)
	for i := range max(n, 0) {
		// A handler may have ended the watch of a later event.
		if f := l.handlers[events[i].Fd]; f != nil {
			f(events[i].Events)
		}
		if l.steps != this {
			break // the rest may be old by now; what is not comes again
		}
	}
	// A timer that one of these sets is the next step's, whenever it is due:
	// what comes in between must not starve.
	now := time.Now()
	for {
		next := l.nextTimer()
		if next == nil || next.at.After(now) {
			return
		}
		l.cancel(next)
		next.call()
	}
}

func (l *loop) nextTimer() *timer {
	var next *timer
	for _, t := range l.timers {
		if next == nil || t.at.Before(next.at) {
			next = t
		}
	}
	return next
}
