package test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Who races with the runtime wins it at one moment, between two of its system
// calls. So that a test is not about luck, each of those calls waits for us: two
// names are exchanged before the first of them, then before the second, and so on.

// watchVar makes this program load a filter that tells of every call by which
// something is looked up or mounted, hand over its listener on descriptor 3, and
// become the command line.
const watchVar = "COVE_TEST_WATCH"

// watched are those calls, and which argument is the path. Those of runtimes that
// resolve paths by themselves are told of where one is tested (COVE_RUNTIME_BINARY).
var watched = map[int]int{
	unix.SYS_OPENAT2: 1, unix.SYS_OPEN_TREE: 1, unix.SYS_MOVE_MOUNT: 3, unix.SYS_MOUNT: 1, unix.SYS_MKDIRAT: 1, unix.SYS_STATFS: 0,
}

func init() {
	if os.Getenv("COVE_RUNTIME_BINARY") != "" {
		watched[unix.SYS_OPENAT], watched[unix.SYS_NEWFSTATAT] = 1, 1
	}
}

func watchCalls(args []string) error {
	runtime.LockOSThread() // the filter is the thread's, and the exec has to be
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}}
	for nr := range watched {
		program = append(program,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(nr), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	const killable = 1 << 5 // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: a signal is no reason to ask again
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|killable,
		uintptr(unsafe.Pointer(&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})))
	if errno != 0 {
		return fmt.Errorf("load the filter: %w", errno)
	}
	if err := unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(listener)), nil, 0); err != nil {
		return err
	}
	unix.CloseOnExec(3)
	unix.CloseOnExec(int(listener))
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, watchVar+"=") })
	return unix.Exec(args[0], args, env)
}

// few leaves out mounts and paths that are as good as those that stay: each is a few
// calls more, and each call two runs of exchanges.
func (b *bundle) few() {
	b.Mounts = slices.DeleteFunc(b.Mounts, func(m specs.Mount) bool {
		return m.Destination != "/proc" && m.Destination != "/sys" && m.Destination != "/dev"
	})
	b.Linux.MaskedPaths, b.Linux.ReadonlyPaths = []string{"/sys/firmware"}, []string{"/proc/sys"}
}

// exchanges runs the runtime again and again. Two names are exchanged before the
// n-th of its calls, counted from the first one that names what is at a place, for
// that call alone or for good, with one n after the other until there is no such
// call. What has become of each is for the judge, who returns false when he has
// seen enough.
func (b *bundle) exchanges(one, other, place string, judge func(out string, err error) bool, args ...string) {
	b.t.Helper()
	swap := func() {
		if err := unix.Renameat2(unix.AT_FDCWD, one, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE); err != nil {
			b.t.Error(err)
		}
	}
	for n, more := 1, true; more; n++ {
		more = false
		for _, back := range []bool{true, false} {
			at, swapped := 0, false
			out, err := b.watched(func(path string) {
				if at == 0 && path != place && !strings.HasPrefix(path, place+"/") && !strings.Contains(path+"/", "/rootfs/"+place+"/") {
					return
				}
				if at++; at == n || back && at == n+1 {
					swap()
					swapped = !swapped
				}
			}, args...)
			if at == 0 {
				b.t.Fatalf("no call names %s: %v %s", place, err, out)
			}
			goOn := judge(out, err)
			_, _ = b.try("delete", "--force", "c")
			if swapped {
				swap()
			}
			if !goOn || b.t.Failed() {
				return
			}
			more = more || at >= n
		}
	}
}

// watched is try with a call of before for each of the watched calls, which waits
// for its return.
func (b *bundle) watched(before func(path string), args ...string) (string, error) {
	b.t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "watch")
	cmd := b.command(args...)
	cmd.Path = "/proc/self/exe"
	cmd.Env, cmd.ExtraFiles = append(os.Environ(), watchVar+"=1"), []*os.File{theirs}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Start()
	_ = theirs.Close()
	defer unix.Close(pair[0])
	if err != nil {
		b.t.Fatal(err)
	}
	oob := make([]byte, unix.CmsgSpace(4))
	_, oobn, _, _, err := unix.Recvmsg(pair[0], make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	messages, parse := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || parse != nil || len(messages) != 1 {
		_ = cmd.Wait()
		b.t.Fatalf("no listener: %v %v %s", err, parse, out.String())
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		b.t.Fatal(err)
	}
	answer(b.t, fds[0], before)
	_ = unix.Close(fds[0])
	if err = cmd.Wait(); errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return out.String(), err
}

// answer lets the calls go on, until nobody is left who makes any:
// seccomp_unotify(2).
func answer(t *testing.T, listener int, before func(path string)) {
	for end := time.Now().Add(patience); ; {
		if time.Now().After(end) {
			t.Fatal("what the runtime has left behind does not end")
		}
		fds := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 1000); err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
		if fds[0].Revents&unix.POLLIN == 0 {
			if fds[0].Revents&unix.POLLHUP != 0 {
				return
			}
			continue
		}
		var call struct { // struct seccomp_notif
			id         uint64
			pid, flags uint32
			nr         int32
			arch       uint32
			ip         uint64
			args       [6]uint64
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&call))); errno != 0 {
			continue // killed meanwhile
		}
		before(stringAt(int(call.pid), call.args[watched[int(call.nr)]]))
		reply := make([]byte, 24) // struct seccomp_notif_resp
		binary.NativeEndian.PutUint64(reply, call.id)
		binary.NativeEndian.PutUint32(reply[20:], unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE)
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&reply[0])))
	}
}

// stringAt reads a string of another process, as much of it as can be read.
func stringAt(pid int, at uint64) string {
	buf := make([]byte, 256)
	n, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}, []unix.RemoteIovec{{Base: uintptr(at), Len: len(buf)}}, 0)
	if err != nil {
		// Its end may be that of the memory.
		n, _ = unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}},
			[]unix.RemoteIovec{{Base: uintptr(at), Len: int(-at & 4095)}}, 0)
	}
	text, _, _ := strings.Cut(string(buf[:max(n, 0)]), "\x00")
	return text
}
