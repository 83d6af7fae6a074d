package serve

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
)

// streams are the monitor's ends of the container's standard streams.
type streams struct {
	in, out, err int       // pipes; -1 when closed or never there
	master       int       // the pty's master; -1 without a terminal
	pending      []byte    // stdin that the container has not taken yet
	feeders      []*client // who is held back until it has
	closeIn      bool      // close stdin once pending is written
	held         bool      // nobody reads the output: a client is too far behind
	own          []int     // what the container has in their place, run after run; nil for none
}

// takeOwn keeps the streams that the monitor was started with for the container.
func (s *streams) takeOwn() error {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(null)
	for fd := range 3 {
		kept, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, control+1)
		if err == nil {
			err = unix.Dup3(null, fd, 0)
		}
		if err != nil {
			return err
		}
		s.own = append(s.own, kept)
	}
	return nil
}

// open makes the streams and returns the container's ends.
func (s *streams) open(terminal, stdin bool) (theirs [3]int, err error) {
	if s.own != nil {
		return [3]int(s.own), nil
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return theirs, err
	}
	theirs = [3]int{null, null, null}
	if terminal {
		return theirs, nil
	}
	var p [2]int
	if stdin {
		if err = unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return theirs, err
		}
		theirs[0], s.in = p[0], p[1]
	}
	if err = unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return theirs, err
	}
	s.out, theirs[1] = p[0], p[1]
	if err = unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return theirs, err
	}
	s.err, theirs[2] = p[0], p[1]
	if stdin {
		_ = unix.Close(null)
	}
	for _, fd := range []int{s.in, s.out, s.err} {
		if fd >= 0 {
			_ = unix.SetNonblock(fd, true)
		}
	}
	return theirs, nil
}

func (s *streams) closeTheirs(theirs [3]int) {
	if s.own != nil {
		return
	}
	for i, fd := range theirs {
		if i == 0 || fd != theirs[i-1] {
			_ = unix.Close(fd)
		}
	}
}

// terminal takes the pty's master that init has sent.
func (s *streams) terminal(master int) {
	_ = unix.SetNonblock(master, true)
	s.master = master
}

// start begins copying.
func (s *streams) start(m *Monitor) {
	s.held = false
	for _, o := range []struct {
		fd   *int
		kind wire.Kind
	}{{&s.out, wire.Stdout}, {&s.err, wire.Stderr}} {
		if *o.fd >= 0 {
			m.watch(*o.fd, unix.EPOLLIN, func(uint32) { m.takeOutput(o.fd, o.kind, 4*len(m.buf)) })
		}
	}
	if s.master >= 0 {
		m.watchInput(s.master, len(s.pending) > 0)
	}
}

// takeOutput copies output, unless a client that wants it is too far behind: then
// the container waits until it has caught up or gone.
func (m *Monitor) takeOutput(fd *int, kind wire.Kind, most int) {
	s := &m.streams
	if s.held = m.behind(); !s.held {
		m.copyOutput(fd, kind, most)
		return
	}
	for _, fd := range []int{s.out, s.err, s.master} {
		m.unwatch(fd) // to ask for nothing would be to hear of a hang-up for ever
	}
	if len(s.pending) > 0 {
		m.watchInput(s.input(), true)
	}
}

// letFlow goes on reading when all clients have caught up.
func (m *Monitor) letFlow() {
	if m.streams.held && !m.behind() {
		m.streams.start(m)
	}
}

// copyOutput reads about most bytes of output and hands them on.
func (m *Monitor) copyOutput(fd *int, kind wire.Kind, most int) {
	for most > 0 && *fd >= 0 {
		n, err := unix.Read(*fd, m.buf[1:])
		most -= n
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return
		case err != nil || n == 0: // EIO: the pty's last slave is closed
			m.forget(*fd)
			*fd = -1
			return
		}
		packet := m.buf[:n+1]
		packet[0] = byte(kind)
		m.log.write(kind, packet[1:])
		for _, c := range m.clients {
			if c.output {
				c.send(packet)
			}
		}
	}
}

// drainOutput copies what is left after the container's end. A survivor that
// holds a pipe open is not waited for, nor listened to: it may be another
// container that was given the pipe and writes faster than we read.
func (m *Monitor) drainOutput() {
	s := &m.streams
	m.copyOutput(&s.out, wire.Stdout, capacity(s.out))
	m.copyOutput(&s.err, wire.Stderr, capacity(s.err))
	m.copyOutput(&s.master, wire.Stdout, capacity(s.master))
}

// capacity is how much can be in a pipe, or more than is in a terminal, whose
// buffers the kernel keeps below 640 KiB (drivers/tty/tty_buffer.c).
func capacity(fd int) int {
	if n, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0); err == nil {
		return n
	}
	return 1 << 20
}

// close ends all streams of a run.
func (m *Monitor) closeStreams() {
	s := &m.streams
	for _, fd := range []*int{&s.in, &s.out, &s.err, &s.master} {
		m.forget(*fd)
		*fd = -1
	}
	s.pending = nil
	s.letFeed(m)
}

// feed passes stdin on. A container that does not read holds its client back,
// never the loop.
func (m *Monitor) feed(c *client, data []byte) {
	s := &m.streams
	fd := s.input()
	if fd < 0 {
		return
	}
	if len(data) == 0 { // end of file
		s.closeIn = true
	} else if len(s.pending) == 0 {
		n, err := unix.Write(fd, data)
		if err != nil && err != unix.EAGAIN && err != unix.EINTR {
			m.closeInput()
			return
		}
		data = data[max(n, 0):]
	}
	s.pending = append(s.pending, data...)
	if len(s.pending) > 0 {
		if !slices.Contains(s.feeders, c) {
			s.feeders = append(s.feeders, c)
		}
		c.pause(true)
		m.watchInput(fd, true)
		return
	}
	if s.closeIn {
		m.closeInput()
	}
}

func (s *streams) input() int {
	if s.master >= 0 {
		return s.master
	}
	return s.in
}

func (s *streams) letFeed(m *Monitor) {
	held := s.feeders
	s.feeders = nil
	for _, c := range held {
		c.pause(false)
	}
}

// watchInput waits for room in the container's stdin.
func (m *Monitor) watchInput(fd int, on bool) {
	s := &m.streams
	if fd == s.master {
		events := uint32(0)
		if !s.held {
			events = unix.EPOLLIN
		}
		if on {
			events |= unix.EPOLLOUT
		}
		if events == 0 {
			m.unwatch(fd)
			return
		}
		m.watch(fd, events, func(ev uint32) {
			switch {
			case ev&unix.EPOLLOUT != 0:
				m.flushInput()
			case s.held: // a hang-up
				m.unwatch(fd)
			}
			if ev&^unix.EPOLLOUT != 0 && !s.held {
				m.takeOutput(&s.master, wire.Stdout, 4*len(m.buf))
			}
		})
		return
	}
	events := uint32(0)
	if on {
		events = unix.EPOLLOUT
	}
	m.watch(fd, events, func(uint32) { m.flushInput() })
}

func (m *Monitor) flushInput() {
	s := &m.streams
	fd := s.input()
	if fd < 0 {
		return
	}
	n, err := unix.Write(fd, s.pending)
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil {
		s.pending = nil
		m.closeInput()
		s.letFeed(m)
		return
	}
	s.pending = s.pending[n:]
	if len(s.pending) > 0 {
		return
	}
	s.pending = nil
	m.watchInput(fd, false)
	s.letFeed(m)
	if s.closeIn {
		m.closeInput()
	}
}

// closeInput ends the container's stdin: by closing the pipe, or by the
// end-of-file character of its terminal.
func (m *Monitor) closeInput() {
	s := &m.streams
	s.closeIn = false
	if s.master >= 0 {
		_, _ = unix.Write(s.master, []byte{4})
		return
	}
	m.forget(s.in)
	s.in = -1
}
