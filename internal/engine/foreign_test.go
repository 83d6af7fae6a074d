package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cove-engine/cove"
)

// A process of a container's that has the words of its runtime is not taken for it: one
// that is there again and again would keep the container from being ended.
func TestFalseRuntime(t *testing.T) {
	needRoot(t)
	e, _ := engineWith(t)
	c := stored(t, e, "a", func(c *cove.Container) { c.Spec.Runtime = "runc" })
	for root, want := range map[string]bool{"": true, "/usr": false} {
		p := &exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", "sleep 1000; :", "--root", filepath.Join(e.bundle(c.ID), "state")}, Dir: "/",
			SysProcAttr: &syscall.SysProcAttr{Chroot: root, Setpgid: true}}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = p.Wait()
		}()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if now, _ := commandLine(p.Process.Pid); now[0] == "sh" { // Start returns in the midst of exec
				break
			}
		}
		if err := e.endRuntimes(c); err != nil {
			t.Errorf("with root %q: %v", root, err)
		}
		select {
		case <-ended:
			if !want {
				t.Errorf("with root %q it was ended", root)
			}
		case <-time.After(map[bool]time.Duration{true: time.Minute, false: 100 * time.Millisecond}[want]):
			if want {
				t.Errorf("with root %q it was not ended", root)
			}
			_ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
			<-ended
		}
	}
}

// A runtime that cannot be looked at is none that has ended.
func TestRuntimeDoubts(t *testing.T) {
	e, _ := engineWith(t)
	withoutDescriptors(t, func() {
		if is, err := e.worksFor(os.Getpid(), newID()); err == nil {
			t.Errorf("it works for it: %v", is)
		}
	})
}
