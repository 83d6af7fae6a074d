package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// stageVar names what this program is when it has started itself:
//
//	enter   joins the house's cgroups, starts init in new namespaces, waits
//	init    process 1 of the house: furnishes it, starts the agent, reaps
//	agent   does the requests that come on its standard input
//
// If the benchmark is killed, enter and then init go by the signal of their
// parent's death, and with init the whole house.
const stageVar = "COVE_BENCH_STAGE"

// cloneNewCgroup is CLONE_NEWCGROUP of <linux/sched.h>.
const cloneNewCgroup = 0x02000000

// plan is what the stages are told, as JSON in planVar.
type plan struct {
	Work    string // the house's directory
	Cgroups []hierarchy
	Env     []string
}

const planVar = "COVE_BENCH_PLAN"

// hello is the first line on a house's standard output.
type hello struct {
	PID int // of init, seen from outside
}

func inside(stage string) {
	var p plan
	err := json.Unmarshal([]byte(os.Getenv(planVar)), &p)
	if err == nil {
		if stage != "agent" { // they live as long as the thread that starts the next
			runtime.LockOSThread()
		}
		switch stage {
		case "enter":
			err = enter(p)
		case "init":
			err = reap(p)
		case "agent":
			err = agent(p)
		default:
			err = errors.New("no such stage")
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", stage, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func enter(p plan) error {
	for _, h := range p.Cgroups {
		if err := join(h.Dir); err != nil {
			return err
		}
	}
	cmd := stageCommand("init")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | cloneNewCgroup,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	for _, h := range p.Cgroups {
		if err := join(filepath.Join(h.Dir, commandGroup)); err != nil {
			return err
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(hello{PID: cmd.Process.Pid}); err != nil {
		return err
	}
	return cmd.Wait()
}

// stageCommand is this program again; what it prints is ours.
func stageCommand(stage string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageVar+"="+stage)
	return cmd
}

func join(dir string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
}

// reap is process 1 of the house.
func reap(p plan) error {
	if err := furnish(p); err != nil {
		return err
	}
	cmd := stageCommand("agent")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	for {
		pid, err := syscall.Wait4(-1, nil, 0, nil)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("wait4", err)
		}
		if pid == cmd.Process.Pid {
			return nil
		}
	}
}

// furnish hides the host's engines from those of the house.
func furnish(p plan) error {
	if err := mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := mountCgroups(p); err != nil {
		return err
	}
	for _, h := range p.Cgroups {
		if err := join(filepath.Join(cgroupRoot, h.Name, commandGroup)); err != nil {
			return err
		}
	}
	// Resolvers keep it below /run.
	const resolv = "/etc/resolv.conf"
	target, _ := filepath.EvalSymlinks(resolv)
	for _, dir := range []string{"/run", "/dev/shm", "/etc/containers", "/var/lib/containers", "/var/lib/cni", "/var/lib/docker"} {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755"); err != nil {
			return err
		}
	}
	if strings.HasPrefix(target, "/run/") {
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll("/run/lock", 0o755); err != nil {
		return err
	}
	if _, err := os.Stat("/etc/containers"); err == nil {
		if err := os.WriteFile("/etc/containers/policy.json", []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o644); err != nil {
			return err
		}
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	return nil
}

// mountCgroups makes the house's cgroups the roots of what is mounted at
// /sys/fs/cgroup: whatever an engine makes, wherever it puts it, lies below
// them and is counted.
func mountCgroups(p plan) error {
	keep := func(h hierarchy) string { return filepath.Join(p.Work, "cgroup", "@"+h.Name) }
	v1 := false
	for _, h := range p.Cgroups {
		if err := os.MkdirAll(keep(h), 0o755); err != nil {
			return err
		}
		if err := mount(h.Dir, keep(h), "", syscall.MS_BIND, ""); err != nil {
			return err
		}
		v1 = v1 || h.Name != ""
	}
	if err := syscall.Unmount(cgroupRoot, syscall.MNT_DETACH); err != nil {
		return &os.PathError{Op: "unmount", Path: cgroupRoot, Err: err}
	}
	if v1 {
		if err := mount("tmpfs", cgroupRoot, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "mode=755"); err != nil {
			return err
		}
	}
	for _, h := range p.Cgroups {
		dir := filepath.Join(cgroupRoot, h.Name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := mount(keep(h), dir, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
		if err := syscall.Unmount(keep(h), syscall.MNT_DETACH); err != nil {
			return &os.PathError{Op: "unmount", Path: keep(h), Err: err}
		}
		for _, alias := range h.Aliases {
			if err := os.Symlink(h.Name, filepath.Join(cgroupRoot, alias)); err != nil {
				return err
			}
		}
	}
	return nil
}

func mount(from, to, kind string, flags uintptr, data string) error {
	if err := syscall.Mount(from, to, kind, flags, data); err != nil {
		return &os.PathError{Op: "mount", Path: to, Err: err}
	}
	return nil
}
