package serve

import (
	"encoding/binary"
	"os"
	"path"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/coldjson"
	"github.com/cove-engine/cove/internal/ctrinit"
	"github.com/cove-engine/cove/internal/ctrinit/drive"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// client is one connection: the cove that started us, an attach, an exec.
//
// What a client does not take in time goes to an unlinked file in the
// container's directory, so a slow one delays neither the container nor the
// log, loses nothing and costs no memory, up to mostBehind.
type client struct {
	m      *Monitor
	fd     int
	output bool // gets the container's output
	watch  bool // gets its exit
	first  bool // the cove that started us
	fed    bool // has sent stdin
	exec   *execution

	spill       int  // -1 without one
	inMemory    bool // spill is, since the disk is full
	read, wrote int64
	paused      bool
}

// adopt takes a connected socket into the loop.
func (m *Monitor) adopt(fd int) *client {
	c := &client{m: m, fd: fd, spill: -1, watch: true}
	m.clients[fd] = c
	c.arm()
	return c
}

// arm asks the loop for what the client is ready for.
func (c *client) arm() {
	events := uint32(0)
	if !c.paused {
		events |= unix.EPOLLIN
	}
	if c.waiting() {
		events |= unix.EPOLLOUT
	}
	c.m.watch(c.fd, events, c.ready)
}

func (c *client) pause(on bool) {
	c.paused = on
	if c.fd >= 0 {
		c.arm()
	}
}

func (c *client) waiting() bool { return c.spill >= 0 && c.read < c.wrote }

// mostBehind is how large the file of what waits for a client may be, in bytes,
// before the container has to wait, too.
const mostBehind = 16 << 20

// behind tells whether one of the clients has a file that large. It is emptied when
// the client has caught up entirely.
func (m *Monitor) behind() bool {
	for _, c := range m.clients {
		if c.output && c.wrote > mostBehind {
			return true
		}
	}
	return false
}

// clientsWaiting tells whether somebody has not been sent everything yet.
func (m *Monitor) clientsWaiting() bool {
	for _, c := range m.clients {
		if c.waiting() {
			return true
		}
	}
	return false
}

func (c *client) ready(events uint32) {
	if events&unix.EPOLLOUT != 0 {
		c.flush()
	}
	if c.fd >= 0 && events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.receive()
	}
}

// receive handles one message.
func (c *client) receive() {
	var oob [64]byte // eight descriptors at most
	// What a client sends fits: stdin comes in pieces of 32 KiB, plans as
	// descriptors.
	kind, body, fds, err := wire.ReceiveInto(c.fd, c.m.input[:], oob[:], unix.MSG_DONTWAIT)
	if err == unix.EAGAIN {
		return
	}
	if err != nil {
		c.close()
		return
	}
	taken := c.handle(kind, body, fds)
	if !taken {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
}

// handle carries out a message; it tells whether it has taken the descriptors.
func (c *client) handle(kind wire.Kind, body []byte, fds []int) bool {
	m := c.m
	switch kind {
	case wire.Stdin:
		c.fed = true
		m.feed(c, body)
	case wire.Resize:
		var size wire.Size
		if coldjson.Unmarshal(body, &size) == nil {
			c.resize(size)
		}
	case wire.Attach:
		var a wire.AttachBody
		if coldjson.Unmarshal(body, &a) == nil {
			c.output = a.Output
			c.sendJSON(wire.Ack, nil)
		}
	case wire.Detach:
		c.output, c.fed = false, false
		c.close()
	case wire.Watch:
		c.sendJSON(wire.Ack, nil)
	case wire.Hold:
		m.stopping = true
		c.sendJSON(wire.Ack, nil)
	case wire.Stop:
		var s wire.StopBody
		if coldjson.Unmarshal(body, &s) == nil {
			m.tellStop = m.tellStop || s.Tell
			m.stop(s.Signal, s.Timeout)
			c.sendJSON(wire.Ack, nil)
		}
	case wire.Networks:
		var n wire.NetworksBody
		body, _, err := wire.Long(body, fds)
		if err == nil && coldjson.Unmarshal(body, &n) == nil && !m.ended {
			m.env.Teardown.Nft, m.env.Teardown.Unlink = n.Nft, n.Unlink
			m.endNames()
			m.env.Resolver = n.Resolver
			m.startNames()
			if m.env.Forward.Targets = n.Forward.Targets; m.retarget != nil {
				m.retarget()
			}
			c.sendJSON(wire.Ack, nil)
		}
	case wire.Policy:
		var r wire.Restart
		if coldjson.Unmarshal(body, &r) == nil {
			m.env.Restart.Policy, m.env.Restart.Retries = r.Policy, r.Retries
			c.sendJSON(wire.Ack, nil)
		}
	case wire.Rename:
		var r wire.RenameBody
		if coldjson.Unmarshal(body, &r) == nil {
			m.env.Name = r.Name
			c.sendJSON(wire.Ack, nil)
		}
	case wire.Probes:
		var h *wire.Health
		body, _, err := wire.Long(body, fds)
		if err == nil && coldjson.Unmarshal(body, &h) == nil && !m.ended {
			m.changeHealth(h)
			c.sendJSON(wire.Ack, nil)
		}
	case wire.Checkpoint:
		var b wire.CheckpointBody
		if coldjson.Unmarshal(body, &b) != nil || m.isAide() && len(fds) != 2 {
			c.sendJSON(wire.Failed, wire.Failure{Step: "checkpoint", Text: "malformed request"})
			return false
		}
		d := &dump{client: c, body: b, plan: m.planFD, turn: -1}
		if m.isAide() {
			d.plan, d.turn = fds[0], fds[1]
		}
		m.startDump(d, time.Now().Add(drive.ImagePatience))
		return m.isAide()
	case wire.HealthRun:
		m.probeNow(c)
	case wire.Exec:
		var e wire.ExecBody
		if coldjson.Unmarshal(body, &e) != nil || len(fds) == 0 || !wire.Keepable(e.Keep) {
			c.sendJSON(wire.Failed, wire.Failure{Step: "exec", Text: "malformed request"})
			return false
		}
		m.startExec(c, e, fds)
		return true
	}
	return false
}

func (c *client) resize(size wire.Size) {
	master := c.m.streams.master
	if c.exec != nil {
		master = c.exec.master
	}
	if master >= 0 {
		_ = unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
	}
}

// sendJSON sends a message whose body is v, or none for nil.
func (c *client) sendJSON(kind wire.Kind, v any) {
	if packet, err := wire.Packet(kind, v); err == nil {
		c.send(packet)
	}
}

// send passes a packet to the client now, or by way of its file.
func (c *client) send(packet []byte) {
	if c.fd < 0 {
		return
	}
	if !c.waiting() {
		err := wire.SendPacket(c.fd, packet, unix.MSG_DONTWAIT)
		if err == nil {
			return
		}
		if err != unix.EAGAIN && err != unix.ENOBUFS {
			c.close()
			return
		}
	}
	if c.spill < 0 {
		fd, err := unix.Openat(c.m.dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == nil {
			c.spill = fd
		} else if !c.spillToMemory() {
			c.close()
			return
		}
	}
	frame := binary.LittleEndian.AppendUint32(nil, uint32(len(packet)))
	frame = append(frame, packet...)
	n, err := unix.Pwrite(c.spill, frame, c.wrote)
	if (err != nil || n != len(frame)) && c.spillToMemory() {
		n, err = unix.Pwrite(c.spill, frame, c.wrote)
	}
	if err != nil || n != len(frame) {
		c.close() // no room anywhere: this client is given up, not the container
		return
	}
	c.wrote += int64(n)
	c.arm()
}

// memorySpill is how much a client may be behind in memory when the disk is
// full, in bytes.
const memorySpill = 64 << 20

// spillToMemory moves what waits for the client from a full disk into memory.
// It is false when it has been there already or nothing more fits.
func (c *client) spillToMemory() bool {
	if c.inMemory || c.wrote-c.read > memorySpill/2 {
		return false
	}
	fd, err := ctrinit.MemoryFile("output", unix.MFD_NOEXEC_SEAL)
	if err != nil {
		return false
	}
	buf := make([]byte, 16<<10)
	for done := int64(0); done < c.wrote-c.read; {
		n, err := unix.Pread(c.spill, buf[:min(int64(len(buf)), c.wrote-c.read-done)], c.read+done)
		if err == nil && n > 0 {
			n, err = unix.Pwrite(fd, buf[:n], done)
		}
		if err != nil || n <= 0 {
			_ = unix.Close(fd)
			return false
		}
		done += int64(n)
	}
	if unix.Ftruncate(fd, memorySpill) != nil {
		_ = unix.Close(fd)
		return false
	}
	// Writing past the end is an error from here on: that is the limit.
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_GROW)
	if c.spill >= 0 {
		_ = unix.Close(c.spill)
	}
	c.spill, c.inMemory, c.read, c.wrote = fd, true, 0, c.wrote-c.read
	return true
}

// flush sends what the client's file holds.
func (c *client) flush() {
	defer c.m.letFlow()
	var head [4]byte
	packet := make([]byte, len(c.m.buf)+1024)
	for c.waiting() {
		if n, err := unix.Pread(c.spill, head[:], c.read); err != nil || n != 4 {
			c.close()
			return
		}
		size := int(binary.LittleEndian.Uint32(head[:]))
		if size > len(packet) { // few are longer than output comes in
			packet = make([]byte, size)
		}
		if n, err := unix.Pread(c.spill, packet[:size], c.read+4); err != nil || n != size {
			c.close()
			return
		}
		err := wire.SendPacket(c.fd, packet[:size], unix.MSG_DONTWAIT)
		if err == unix.EAGAIN || err == unix.ENOBUFS {
			return
		}
		if err != nil {
			c.close()
			return
		}
		c.read += int64(4 + size)
	}
	if c.spill >= 0 {
		c.read, c.wrote = 0, 0
		if c.inMemory {
			_ = unix.Close(c.spill)
			c.spill, c.inMemory = -1, false
		} else {
			_ = unix.Ftruncate(c.spill, 0)
		}
	}
	c.arm()
}

// close forgets the client. One that fed stdin and is gone without a word
// ends the container's stdin if the container was started that way.
func (c *client) close() {
	if c.fd < 0 {
		return
	}
	m := c.m
	delete(m.clients, c.fd)
	m.forget(c.fd)
	c.fd = -1
	if c.spill >= 0 {
		_ = unix.Close(c.spill)
		c.spill = -1
	}
	if c.exec != nil {
		c.exec.client = nil
		if m.foreign && c.exec.socket >= 0 { // a runtime that hangs is not waited for
			_ = unix.Shutdown(c.exec.socket, unix.SHUT_WR)
		}
		m.discard(c.exec)
	}
	m.streams.feeders = slices.DeleteFunc(m.streams.feeders, func(f *client) bool { return f == c })
	m.letFlow()
	if c.fed && m.env.StdinOnce && m.streams.input() >= 0 {
		m.feed(c, nil)
	}
}

// openSocket makes the socket that later callers find us by, anew if it was
// removed. Its directory is the engine's and closed to other users.
func (m *Monitor) openSocket() {
	if m.env.Socket == "" {
		return
	}
	if m.listen >= 0 {
		var named unix.Stat_t
		if unix.Lstat(m.env.Socket, &named) == nil && named.Dev == m.socket.Dev && named.Ino == m.socket.Ino {
			return // it is there, and somebody may be in its queue
		}
		m.forget(m.listen)
		m.listen = -1
	}
	_ = os.MkdirAll(path.Dir(m.env.Socket), 0o700)
	_ = os.Remove(m.env.Socket) // a directory, too
	dir, err := unix.Open(path.Dir(m.env.Socket), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	// A socket's path is at most 107 bytes, unix(7); by descriptor it fits.
	addr := &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/" + path.Base(m.env.Socket)}
	old := unix.Umask(0o077)
	err = unix.Bind(fd, addr)
	unix.Umask(old)
	if err == nil {
		err = unix.Listen(fd, 16)
	}
	if err == nil {
		err = unix.Fstatat(dir, path.Base(m.env.Socket), &m.socket, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		_ = unix.Close(fd)
		return
	}
	m.listen = fd
	m.watch(fd, unix.EPOLLIN, func(uint32) { m.accept() })
}

func (m *Monitor) accept() {
	fd, _, err := unix.Accept4(m.listen, unix.SOCK_CLOEXEC)
	if err != nil {
		return
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || (int(cred.Uid) != os.Geteuid() && cred.Uid != 0) {
		_ = unix.Close(fd)
		return
	}
	m.adopt(fd)
}
