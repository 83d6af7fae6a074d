package ctrinit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A user who may have no more keys has containers all the same, each with a
// session keyring of its own.
func TestKeyringWithoutRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to map users")
	}
	// Users that nobody else has: their quotas are theirs alone.
	base := 1<<30 + os.Getpid()&0xfff<<18
	for _, c := range []struct {
		name   string
		mapped int
		works  bool
	}{{"all", 65536, true}, {"few", 8, true}, {"one", 1, false}} {
		t.Run(c.name, func(t *testing.T) {
			base += 1 << 16
			m := []syscall.SysProcIDMap{{HostID: base, Size: c.mapped}}
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestKeyringInside$")
			cmd.Env = append(os.Environ(), insideVar+"="+c.name)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: m, GidMappings: m, GidMappingsEnableSetgroups: true, Credential: &syscall.Credential{}}
			out, err := cmd.CombinedOutput()
			if strings.Contains(string(out), "no keyrings") {
				t.Skip("needs a kernel with keyrings")
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}

const insideVar = "COVE_TEST_KEYRING"

// TestKeyringInside is the part of it that runs in a user namespace.
func TestKeyringInside(t *testing.T) {
	name := os.Getenv(insideVar)
	if name == "" {
		t.Skip("a part of TestKeyringWithoutRoom")
	}
	runtime.LockOSThread()
	filled := make(chan error)
	go func() {
		// A thread of its own, which stays: the keys are those of its keyring, and
		// go with it.
		runtime.LockOSThread()
		filled <- fillKeys()
		select {}
	}()
	if err := <-filled; err != nil {
		t.Fatal(err)
	}
	before, _ := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false) // root's, which has no name here
	err := joinKeyring("_ses.test")
	if name == "one" {
		if err == nil || !strings.Contains(err.Error(), "kernel.keys.maxkeys") {
			t.Fatalf("where no other user is mapped: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	made, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if err != nil || made == before {
		t.Fatalf("session keyring %d, before %d: %v", made, before, err)
	}
	if r, e, s := unix.Getresuid(); r != 0 || e != 0 || s != 0 {
		t.Fatalf("users %d %d %d afterwards", r, e, s)
	}
	// Somebody who is in another one, as an exec is, finds it by its name.
	if id, err := unix.KeyctlJoinSessionKeyring("more"); err != unix.EDQUOT {
		t.Fatalf("there is room for another key: %d, %v", id, err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := joinKeyring("_ses.other")
		if err == nil {
			err = joinKeyring("_ses.test")
		}
		if id, _ := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false); err == nil && id != made {
			err = fmt.Errorf("an exec is in keyring %d, not %d", id, made)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// fillKeys makes keyrings until the user may have no more.
func fillKeys() error {
	ring, err := unix.KeyctlJoinSessionKeyring("fill")
	if err == unix.ENOSYS {
		return errors.New("no keyrings")
	}
	for n := 0; err == nil && n < 1000; n++ {
		_, err = unix.AddKey("keyring", fmt.Sprint("fill", n), nil, ring)
	}
	if err != unix.EDQUOT {
		return fmt.Errorf("fill the quota: %w", err)
	}
	return nil
}
