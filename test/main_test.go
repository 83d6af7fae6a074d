// Package test holds the behavioural tests: scripts in the user's language
// (testdata/script) that run on cove and, to prove the scripts themselves, on
// podman and docker.
//
//	go test ./test                               cove (../bin/cove, or COVE_BINARY)
//	COVE_UNDER_TEST=podman go test ./test        the reference
//	go test ./test -run Script/run_exit -v       one script
//	COVE_TEST_KEEP=1 go test ./test …            leave the work directories
//	COVE_TEST_RECORD=1 go test -run Answers …    write testdata/answers anew
//	COVE_TEST_CGROUP_MANAGER=systemd go test …   scopes of systemd, where it manages cgroup v2
//	COVE_TEST_RUNTIME=/usr/sbin/runc go test …   with another OCI runtime
//	COVE_TEST_MONITOR=conmon go test …           with conmon as cove's monitor
//
// The tests need root. They run in network and mount namespaces of their own,
// so that neither the host's network nor its engines' files are touched.
package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// insideVar marks the process that runs in its own namespaces.
const insideVar = "COVE_TEST_INSIDE"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(udpVar) != "":
		os.Exit(udp(os.Getenv(udpVar)))
	case os.Getenv(lockVar) != "":
		os.Exit(holdLock(os.Getenv(lockVar)))
	case os.Getenv(watchVar) != "":
		fmt.Fprintln(os.Stderr, "watch:", watchCalls(os.Args))
		os.Exit(1)
	case os.Getenv(traceVar) != "":
		os.Exit(trace(os.Getenv(traceVar)))
	case os.Geteuid() != 0, os.Getenv(registryVar) != "":
		os.Exit(m.Run())
	case os.Getenv(insideVar) == "":
		os.Exit(reexec())
	}
	if err := furnish(); err != nil {
		fmt.Fprintln(os.Stderr, "test namespaces:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// reexec runs this program again in new network and mount namespaces and
// gives its exit code.
func reexec() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// Unshareflags, not Cloneflags: only so are all mounts made private.
		Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		Pdeathsig:    syscall.SIGKILL,
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "test namespaces:", err)
		return 1
	}
	return 0
}

// furnish hides the host's container configuration and run state behind empty
// file systems that go with the mount namespace.
func furnish() error {
	for _, dir := range []string{"/etc/containers", "/run/netns", "/run/containers", "/run/podman", "/run/lock", "/run/user", "/var/lib/containers", "/var/lib/cni"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return &os.PathError{Op: "mount", Path: dir, Err: err}
		}
	}
	// podman keeps only its sockets and locks here; the rest of /run is the host's.
	if err := ordinary.Add(); err != nil {
		return err
	}
	policy := `{"default":[{"type":"insecureAcceptAnything"}]}` + "\n"
	return os.WriteFile(filepath.Join("/etc/containers", "policy.json"), []byte(policy), 0o644)
}
