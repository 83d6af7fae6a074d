package drive

import (
	"strings"

	"golang.org/x/sys/unix"
)

// What a runtime says on its standard error matters when its log is empty:
// wrong flags, loaders and scripts know of no log. words is where that is read,
// -1 for nowhere.
type words struct {
	fd  int
	own bool // a file that the runtime has written to; else the pipe's other end
}

// listen arranges for r's words; where stdio has -1 it gets a file of ours. That
// is no pipe: of one that is closed, what the runtime leaves running would die
// one day, by SIGPIPE.
func (r *request) listen(stdio *[3]int) (w words, err error) {
	switch w.fd = -1; {
	case stdio[2] < 0:
		w.own = true
		w.fd, err = unix.MemfdCreate("stderr", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		stdio[2] = w.fd
	case r.unread:
		// Without it there are no words, which is no reason not to go on.
		w.fd, _ = unix.Open("/proc/self/fd/2", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	}
	return w, err
}

// end is the end of what was said, one line.
func (w words) end() string {
	const most = 300
	if w.own {
		_, _ = unix.Seek(w.fd, 0, unix.SEEK_SET)
	}
	var said []byte
	buf := make([]byte, 4096)
	for w.fd >= 0 {
		n, err := unix.Read(w.fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			break
		}
		said = append(said, buf[:n]...)
		said = said[max(0, len(said)-4*most):]
	}
	return tail(strings.Join(strings.Fields(strings.ToValidUTF8(string(said), "")), " "), most)
}

// close takes care that what is left running does not fill the memory.
func (w words) close() {
	if w.fd < 0 {
		return
	}
	if w.own {
		_, _ = unix.FcntlInt(uintptr(w.fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
	}
	_ = unix.Close(w.fd)
}
