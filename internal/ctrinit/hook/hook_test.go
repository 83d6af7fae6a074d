package hook

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/plan"
)

func shell(script string, timeout int) plan.Hook {
	return plan.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin:/usr/bin"}, Timeout: timeout}
}

// Hooks run one after the other until one fails; its words come with it, cut.
func TestFails(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	state := plan.HookState{ID: "c", Bundle: t.TempDir()}
	err := Run("poststart", []plan.Hook{
		shell("cat > "+out+"; pwd >> "+out, 0),
		shell("head -c 100000 /dev/zero | tr '\\0' x; echo; echo late; exit 7", 0),
		shell("echo never > "+out, 0),
	}, state, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "poststart hook #1, /bin/sh: exit status 7: xxx") || len(err.Error()) > 3000 {
		t.Errorf("%.100v", err)
	}
	got, _ := os.ReadFile(out)
	if want := `{"ociVersion":"","id":"c","status":"","bundle":"` + state.Bundle + `"}` + state.Bundle + "\n"; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What a hook has started in its process group goes with it when its time is
// over, and what it leaves behind is no reason to wait.
func TestGroup(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	script := fmt.Sprintf("sleep 1000 & echo $! > %s; ", pid)
	child := func() int {
		t.Helper()
		text, _ := os.ReadFile(pid)
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for limit := 1; ; limit *= 4 { // until that is enough for a shell to come to it
		err := Run("prestart", []plan.Hook{shell(script+"wait", limit)}, plan.HookState{}, nil)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("did not end within %d seconds", limit)) {
			t.Error(err)
		}
		if text, _ := os.ReadFile(pid); len(text) > 0 || limit > 60 {
			break
		}
	}
	for end := time.Now().Add(time.Minute); running(child()); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("its child runs on")
		}
	}
	if err := Run("prestart", []plan.Hook{shell(script+"exit 0", 0)}, plan.HookState{}, nil); err != nil {
		t.Error(err)
	}
	if !running(child()) {
		t.Error("what it has left behind is gone")
	}
	_ = unix.Kill(child(), unix.SIGKILL)
}

// running tells whether a process is there and no zombie.
func running(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}
