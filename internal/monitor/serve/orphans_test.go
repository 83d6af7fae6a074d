package serve

import (
	"os/exec"
	"slices"
	"testing"

	"github.com/cove-engine/cove/internal/ctrinit/hook"
)

// A hook is waited for by who runs it: reaped as a stray it would be taken for one
// that has succeeded.
func TestHookIsNoStray(t *testing.T) {
	child := exec.Command("/bin/sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	m := new(Monitor)
	if !slices.Contains(m.strays(), child.Process.Pid) {
		t.Error("a child that nobody knows is no stray")
	}
	m.hook = &hook.Running{PID: child.Process.Pid}
	if slices.Contains(m.strays(), child.Process.Pid) {
		t.Error("a hook is a stray")
	}
}
