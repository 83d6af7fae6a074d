package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cove-engine/cove/internal/monitor/runfile"
)

// A process that looks like a container's monitor and is another user's, or a
// container's, is not taken for it: who did would wait for it for ever.
func TestFalseMonitor(t *testing.T) {
	needRoot(t)
	e, _ := engineWith(t)
	c := stored(t, e, "a", nil)
	name := filepath.Join(e.dir(c.ID), runfile.Name)
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for who, test := range map[string]struct {
		attr syscall.SysProcAttr
		want string
	}{
		"the monitor":       {syscall.SysProcAttr{}, c.ID},
		"another user's":    {syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, ""},
		"with another root": {syscall.SysProcAttr{Chroot: "/usr"}, ""}, // it has /bin and /lib, too
	} {
		for _, argv := range [][]string{
			{"cove-monitor", "1000"},
			{"conmon", "-c", "sleep 1000; :", "--cid", c.ID, "--exit-dir", e.exits(c.ID)},
		} {
			program := "/bin/sleep"
			if argv[0] == "conmon" {
				program = "/bin/sh"
			}
			p := &exec.Cmd{Path: program, Args: argv, ExtraFiles: []*os.File{file}, SysProcAttr: &test.attr, Dir: "/"}
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			// Start returns in the midst of exec.
			for end := time.Now().Add(time.Minute); time.Now().Before(end); {
				if now, _ := commandLine(p.Process.Pid); now[0] == argv[0] {
					break
				}
				time.Sleep(time.Millisecond)
			}
			if got, err := e.monitorOf(p.Process.Pid); got != test.want || err != nil {
				t.Errorf("%s of %q: %q, %v, want %q", who, argv[0], got, err, test.want)
			}
			_ = p.Process.Kill()
			_ = p.Wait()
		}
	}
}
