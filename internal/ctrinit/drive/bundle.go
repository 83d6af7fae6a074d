package drive

import (
	"encoding/json"
	"os"
	"path"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/ctrinit"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

const (
	configFile  = "config.json"
	processFile = "process"
	execDir     = "exec"
)

// scratch is where the files of this creation or exec are: the bundle, or a
// file system in memory on a directory in it that only this driver and its
// runtime see. An exec needs no room on the disk.
func (d *driver) scratch() string {
	if d.init != 0 {
		return d.Dir + "/" + execDir
	}
	return d.Dir
}

// openScratch opens it. The bundle is nobody else's to see and is made anew:
// what the last run has left there is of no use.
func (d *driver) openScratch() (fd int, err error) {
	if d.init != 0 {
		err = unix.Mount("tmpfs", d.scratch(), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700,size=16m")
	} else if d.runtimeArgs != nil {
		err = os.Mkdir(d.Dir+"/"+execDir, 0o700) // conmon is there already
	} else if err = os.RemoveAll(d.Dir); err == nil {
		if err = os.Mkdir(d.Dir, 0o700); err == nil {
			err = os.Mkdir(d.Dir+"/"+execDir, 0o700)
		}
	}
	if err != nil {
		return -1, err
	}
	return unix.Open(d.scratch(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// short is a path for sockets, which have 107 bytes at most, unix(7).
func (d *driver) short(name string) string {
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(d.dir) + "/" + name
}

func (d *driver) read(name string) ([]byte, error) {
	fd, err := unix.Openat(d.dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return ctrinit.ReadAll(fd)
}

// configure completes the configuration and writes it.
func (d *driver) configure() *wire.Failure {
	var whole, process map[string]json.RawMessage
	name, config := configFile, d.Config
	if d.init != 0 {
		name = processFile
	} else {
		if err := json.Unmarshal(config, &whole); err != nil {
			return wire.Fail("read the configuration", err)
		}
		config = whole["process"]
	}
	if err := json.Unmarshal(config, &process); err != nil {
		return wire.Fail("read the process", err)
	}
	user := map[string]any{}
	if raw, ok := process["user"]; ok {
		if err := json.Unmarshal(raw, &user); err != nil {
			return wire.Fail("read the process's user", err)
		}
	}
	user["uid"], user["gid"], user["additionalGids"] = d.Process.UID, d.Process.GID, d.Process.GIDs
	process["user"], process["env"] = encode(user), encode(d.Process.Env)
	data := encode(process)
	if d.init == 0 {
		whole["process"] = data
		linux, f := d.linux(whole["linux"])
		if f != nil {
			return f
		}
		whole["linux"] = linux
		data = encode(whole)
	}
	fd, err := unix.Openat(d.dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return wire.Fail("write "+name, err)
	}
	defer unix.Close(fd)
	if n, err := unix.Write(fd, data); err != nil || n != len(data) {
		return &wire.Failure{Step: "write " + name, Errno: unix.ENOSPC}
	}
	return nil
}

// mounts tells whether something is mounted at a path or above it.
func (d *driver) mounts(name string) bool {
	var config struct {
		Mounts []struct{ Destination string }
	}
	_ = json.Unmarshal(d.Config, &config)
	for _, m := range config.Mounts {
		if at := path.Clean("/" + m.Destination); name == at || strings.HasPrefix(name, at+"/") {
			return true
		}
	}
	return false
}

// linux gives the namespaces to be joined their paths.
func (d *driver) linux(raw json.RawMessage) (json.RawMessage, *wire.Failure) {
	var linux map[string]json.RawMessage
	var spaces []map[string]string
	if err := json.Unmarshal(raw, &linux); err != nil {
		return nil, wire.Fail("read the configuration", err)
	}
	if err := json.Unmarshal(linux["namespaces"], &spaces); err != nil {
		return nil, wire.Fail("read the namespaces", err)
	}
	for _, ns := range spaces {
		if name, ok := d.spaces[ns["type"]]; ok {
			ns["path"] = name
		}
	}
	linux["namespaces"] = encode(spaces)
	return encode(linux), nil
}

// encode is for what was decoded or is made of strings and numbers.
func encode(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// listen makes the socket on which the runtime sends the terminal.
func (d *driver) listen(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: d.short(name)}); err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// takeTerminal receives the master of the terminal: one message with one
// descriptor, whose text is the terminal's name. The runtime has ended, so it
// is there or never comes.
func takeTerminal(listener int) (int, *wire.Failure) {
	const step = "receive the terminal"
	ready := func(fd int) bool {
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000)
			if err != unix.EINTR {
				return n == 1
			}
		}
	}
	if !ready(listener) {
		return -1, &wire.Failure{Step: step, Text: "the runtime has sent none"}
	}
	conn, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return -1, wire.Fail(step, err)
	}
	defer unix.Close(conn)
	if !ready(conn) {
		return -1, &wire.Failure{Step: step, Text: "the runtime has sent none"}
	}
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(conn, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, wire.Fail(step, err)
	}
	if messages, err := unix.ParseSocketControlMessage(oob[:n]); err == nil && len(messages) == 1 {
		if fds, err := unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	return -1, &wire.Failure{Step: step, Text: "the runtime's message has not one descriptor"}
}

// size gives the terminal the size of the caller's.
func (d *driver) size(master int) {
	if d.Process.Rows == 0 && d.Process.Cols == 0 {
		return
	}
	size := unix.Winsize{Row: d.Process.Rows, Col: d.Process.Cols}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCSWINSZ, uintptr(unsafe.Pointer(&size)))
}
