package cgroup

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// The parts of union bpf_attr, linux/bpf.h, that are used here. What is not
// given counts as zero.
type (
	loadAttr struct {
		kind     uint32
		count    uint32
		insns    uint64
		license  uint64
		logLevel uint32
		logSize  uint32
		log      uint64
		version  uint32
		flags    uint32
		name     [16]byte
	}
	attachAttr struct {
		target  uint32 // the cgroup
		program uint32
		kind    uint32
		flags   uint32
		replace uint32
	}
	queryAttr struct {
		target      uint32
		kind        uint32
		flags       uint32
		attachFlags uint32
		ids         uint64
		count       uint32
		_           uint32
	}
	byIDAttr struct {
		id    uint32
		next  uint32
		flags uint32
	}
)

// bpf is bpf(2). The caller keeps alive what attr points to.
func bpf(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	for {
		r, _, e := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
		switch e {
		case 0:
			return int(r), nil
		case unix.EINTR, unix.EAGAIN: // the verifier yields to signals
		default:
			return -1, e
		}
	}
}

// attachDevices makes code the device program of the version 2 cgroup dir, in
// place of the one that is there; programs of the cgroups above go on to
// apply as well. It ends with the cgroup.
func attachDevices(dir string, code []byte) error {
	fail := func(step string, err error) error {
		return cove.E(step, dir, kind(err), err)
	}
	target, err := open(dir, unix.O_DIRECTORY)
	if err != nil {
		return fail("limit devices", err)
	}
	defer unix.Close(target)
	prog, err := loadProgram(code)
	if err != nil {
		return fail("load device program", err)
	}
	defer unix.Close(prog)
	old, err := attached(target)
	if err != nil {
		return fail("query device programs", err)
	}
	defer func() {
		for _, fd := range old {
			_ = unix.Close(fd)
		}
	}()
	at := attachAttr{target: uint32(target), program: uint32(prog), kind: unix.BPF_CGROUP_DEVICE, flags: unix.BPF_F_ALLOW_MULTI}
	if len(old) == 1 {
		// In one step, from Linux 5.6 on.
		r := at
		r.flags |= unix.BPF_F_REPLACE
		r.replace = uint32(old[0])
		if _, err = bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&r), unsafe.Sizeof(r)); err == nil {
			return nil
		}
	}
	if _, err = bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&at), unsafe.Sizeof(at)); err != nil {
		return fail("attach device program", err)
	}
	var errs []error
	for _, fd := range old {
		at := attachAttr{target: uint32(target), program: uint32(fd), kind: unix.BPF_CGROUP_DEVICE}
		if _, err := bpf(unix.BPF_PROG_DETACH, unsafe.Pointer(&at), unsafe.Sizeof(at)); err != nil && err != unix.ENOENT {
			errs = append(errs, fail("detach device program", err))
		}
	}
	return errors.Join(errs...)
}

func loadProgram(code []byte) (int, error) {
	if len(code) == 0 || len(code)%insnSize != 0 {
		return -1, unix.EINVAL
	}
	license := [...]byte{0} // needs none: it calls nothing
	attr := loadAttr{
		kind:    unix.BPF_PROG_TYPE_CGROUP_DEVICE,
		count:   uint32(len(code) / insnSize),
		insns:   uint64(uintptr(unsafe.Pointer(&code[0]))),
		license: uint64(uintptr(unsafe.Pointer(&license[0]))),
		name:    [16]byte{'c', 'o', 'v', 'e', '_', 'd', 'e', 'v', 'i', 'c', 'e', 's'},
	}
	var pin runtime.Pinner
	pin.Pin(&code[0])
	pin.Pin(&license[0])
	defer pin.Unpin()
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err == unix.EPERM {
		// Before Linux 5.11 programs count as locked memory.
		var limit unix.Rlimit
		if unix.Prlimit(0, unix.RLIMIT_MEMLOCK, nil, &limit) != nil {
			return -1, err
		}
		if unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, nil) != nil {
			return -1, err
		}
		fd, err = bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
		if e := unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &limit, nil); e != nil && err == nil {
			_ = unix.Close(fd)
			return -1, e
		}
	}
	return fd, err
}

// attached opens the device programs of the cgroup itself.
func attached(target int) ([]int, error) {
	var ids [64]uint32 // as many as the kernel allows
	var pin runtime.Pinner
	pin.Pin(&ids[0])
	defer pin.Unpin()
	q := queryAttr{target: uint32(target), kind: unix.BPF_CGROUP_DEVICE, ids: uint64(uintptr(unsafe.Pointer(&ids[0]))), count: uint32(len(ids))}
	if _, err := bpf(unix.BPF_PROG_QUERY, unsafe.Pointer(&q), unsafe.Sizeof(q)); err != nil {
		return nil, err
	}
	var fds []int
	for _, id := range ids[:min(int(q.count), len(ids))] {
		by := byIDAttr{id: id}
		fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&by), unsafe.Sizeof(by))
		if err == unix.ENOENT {
			continue // gone meanwhile
		}
		if err != nil {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}
