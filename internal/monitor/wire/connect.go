package wire

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Connect connects to the socket that was opened (O_PATH) as file: by its path,
// only 107 bytes of one would fit, unix(7). kind is that of both, SOCK_STREAM or
// SOCK_SEQPACKET. Where as many wait as the listener has room for, so does this, as
// long as the limit; then the error is EAGAIN.
func Connect(file, kind int, limit time.Duration) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	end := time.Now().Add(limit)
	for err = unix.EINTR; err == unix.EINTR; { // a wait with a limit does not go on by itself, signal(7)
		left := time.Until(end)
		if left <= 0 {
			err = unix.EAGAIN
		} else if err = LimitSend(fd, max(left, time.Microsecond)); err == nil {
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(file)})
		}
	}
	if err == nil {
		err = LimitSend(fd, 0)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// LimitSend gives what is sent over a socket an end, after which the error is
// EAGAIN; 0 is none.
func LimitSend(fd int, limit time.Duration) error {
	t := unix.NsecToTimeval(limit.Nanoseconds())
	return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &t)
}
