package conmon

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/monitor"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// Watched is a running container as a conversation about it needs to know it.
type Watched struct {
	Bundle string
	// Signal sends a signal to the container's init; Drops tells that it would be
	// lost on it.
	Signal func(unix.Signal) error
	Drops  func(unix.Signal) bool
	// Stopping records that a user has asked for the end.
	Stopping func()
	// Ended waits for the end and tells it; Settle takes the container down
	// after it, or waits until somebody else has.
	Ended  func(ctx context.Context) (wire.ExitBody, error)
	Settle func(ctx context.Context)
	// Aide connects to cove's process beside the container that answers a kind
	// of message.
	Aide func(k wire.Kind) (*monitor.Conn, error)
	// Close is called once, when nothing else will be.
	Close func()
}

// bridge stands between somebody who speaks to a monitor and conmon. It lives
// in the former's process.
type bridge struct {
	Watched
	fd      int
	sending sync.Mutex
	stream  *Stream       // nil while nobody is attached
	copied  chan struct{} // closed when the output has ended
	stopped atomic.Bool   // by this conversation: who asked settles, too
	kill    *time.Timer
	aide    *monitor.Conn // has all the rest of the conversation
	relayed chan struct{} // closed when the aide has no more to say
}

// Open begins a conversation with the monitor of a running container. With
// attached its output comes from the first byte on.
func Open(w Watched, attached *Stream) (*monitor.Conn, error) {
	ours, theirs, err := wire.Pair()
	if err != nil {
		w.Close()
		return nil, cove.E("speak with conmon", "", cove.Internal, err)
	}
	b := &bridge{Watched: w, fd: theirs}
	if attached != nil {
		b.follow(attached)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { b.tell(ctx) })
	parts.Go(func() { b.serve(ctx); cancel() })
	go func() {
		parts.Wait()
		_ = unix.Close(b.fd)
		b.Close()
	}()
	return monitor.Wrap(ours), nil
}

func (b *bridge) send(packet []byte) error {
	b.sending.Lock()
	defer b.sending.Unlock()
	return wire.SendPacket(b.fd, packet, 0)
}

func (b *bridge) sendJSON(k wire.Kind, v any) {
	if packet, err := wire.Packet(k, v); err == nil {
		_ = b.send(packet)
	}
}

// follow passes a stream's output on.
func (b *bridge) follow(s *Stream) {
	b.stream, b.copied = s, make(chan struct{})
	go func() {
		s.copyTo(b.send)
		close(b.copied)
	}()
}

// outputLimit is how long output is waited for when the container has ended:
// conmon closes its sockets before it tells that.
const outputLimit = 10 * time.Second

// tell tells the end. With an aide it is that one's to tell its process's.
func (b *bridge) tell(ctx context.Context) {
	exit, err := b.Ended(ctx)
	if err != nil {
		_ = unix.Shutdown(b.fd, unix.SHUT_RDWR)
		return
	}
	b.sending.Lock()
	copied, aided := b.copied, b.aide != nil
	b.sending.Unlock()
	if aided {
		return
	}
	if copied != nil {
		select {
		case <-copied:
		case <-ctx.Done():
		case <-time.After(outputLimit):
		}
	}
	b.sendJSON(wire.Exit, exit)
	if !b.stopped.Load() {
		b.Settle(ctx)
	}
	b.sendJSON(wire.Done, nil)
}

// serve handles what is asked until the asker is gone.
func (b *bridge) serve(ctx context.Context) {
	buf := make([]byte, 64<<10)
	for {
		kind, body, fds, err := wire.Receive(b.fd, buf)
		if err != nil {
			break
		}
		if !b.handle(ctx, kind, body, fds) {
			break
		}
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
	if b.stream != nil {
		b.stream.leave()
		<-b.copied
		_ = unix.Close(b.stream.fd)
	}
	if b.kill != nil {
		b.kill.Stop()
	}
	if b.aide != nil {
		_ = unix.Shutdown(b.aide.FD(), unix.SHUT_RDWR)
		<-b.relayed
		b.aide.Close()
	}
}

// handle carries out a request; false ends the conversation.
func (b *bridge) handle(ctx context.Context, kind wire.Kind, body []byte, fds []int) bool {
	if b.aide != nil {
		return b.aide.Send(kind, body, fds...) == nil
	}
	switch kind {
	case wire.Attach:
		if b.stream == nil {
			s, err := Attach(b.Bundle)
			if err != nil {
				b.sendJSON(wire.Failed, wire.Fail("attach", err))
				return true
			}
			b.sending.Lock()
			b.follow(s)
			b.sending.Unlock()
		}
		b.sendJSON(wire.Ack, nil)
	case wire.Stdin:
		switch {
		case b.stream == nil:
		case len(body) == 0:
			b.stream.end()
		default:
			_ = b.stream.write(body)
		}
	case wire.Resize:
		var size wire.Size
		if json.Unmarshal(body, &size) == nil {
			_ = Resize(b.Bundle, size)
		}
	case wire.Detach:
		return false
	case wire.Watch:
		b.sendJSON(wire.Ack, nil)
	case wire.Stop:
		var s wire.StopBody
		if json.Unmarshal(body, &s) == nil {
			b.stop(ctx, s)
		}
	case wire.Exec, wire.HealthRun, wire.Networks, wire.Checkpoint:
		aide, err := b.Aide(kind)
		if err == nil {
			err = aide.Send(kind, body, fds...)
		}
		if err != nil {
			b.sendJSON(wire.Failed, wire.Fail("reach the container's aide", err))
			return true
		}
		b.sending.Lock()
		b.aide, b.relayed = aide, make(chan struct{})
		b.sending.Unlock()
		go b.relay(aide)
	default:
		b.sendJSON(wire.Failed, wire.Failure{Step: "ask conmon", Text: "it has no answer to that"})
	}
	return true
}

// stop ends the container as a monitor does: the signal now, SIGKILL after the
// time-out, if this process lives that long.
func (b *bridge) stop(ctx context.Context, s wire.StopBody) {
	b.stopped.Store(true)
	b.Stopping()
	b.sendJSON(wire.Ack, nil)
	if s.Signal == 0 {
		return
	}
	b.signalHeard(ctx, unix.Signal(s.Signal), 2*time.Millisecond)
	if s.Signal != int(unix.SIGKILL) {
		b.kill = time.AfterFunc(time.Duration(s.Timeout)*time.Second, func() { _ = b.Signal(unix.SIGKILL) })
	}
}

// signalHeard sends init a signal when it is not lost on it, as a monitor does.
func (b *bridge) signalHeard(ctx context.Context, sig unix.Signal, pause time.Duration) {
	switch {
	case ctx.Err() != nil: // who asked has gone
	case b.Drops(sig):
		time.AfterFunc(pause, func() { b.signalHeard(ctx, sig, min(2*pause, 100*time.Millisecond)) })
	default:
		_ = b.Signal(sig)
	}
}

// relay passes an aide's messages on, and its end.
func (b *bridge) relay(aide *monitor.Conn) {
	defer close(b.relayed)
	defer unix.Shutdown(b.fd, unix.SHUT_RDWR)
	for {
		m, err := aide.Receive()
		if err != nil {
			return
		}
		b.sending.Lock()
		err = wire.Send(b.fd, m.Kind, m.Body, m.FDs...)
		b.sending.Unlock()
		for _, fd := range m.FDs {
			_ = unix.Close(fd)
		}
		if err != nil {
			return
		}
	}
}
