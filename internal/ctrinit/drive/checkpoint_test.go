package drive

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/procfs"
)

// The new images take the place of those of the checkpoint before, once, whatever of that
// was killed.
func TestKeep(t *testing.T) {
	for _, test := range []struct{ name, dir, unfinished, replaced string }{
		{"the first", "", "new", ""},
		{"another", "before", "new", ""},
		{"killed at the removal of what was replaced", "new", "", "before"},
		{"the same, before another", "before", "new", "long before"},
	} {
		dir := filepath.Join(t.TempDir(), "checkpoint")
		for at, images := range map[string]string{dir: test.dir, dir + Unfinished: test.unfinished, dir + replaced: test.replaced} {
			if images == "" {
				continue
			}
			if err := os.Mkdir(at, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at+"/inventory.img", []byte(images), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := Keep(dir); err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			if images, err := os.ReadFile(dir + "/inventory.img"); string(images) != "new" {
				t.Errorf("%s: %q, %v", test.name, images, err)
			}
			if all, _ := filepath.Glob(dir + ".*"); len(all) > 0 {
				t.Errorf("%s: %q are left", test.name, all)
			}
		}
	}
}

// What a CRIU that was killed had forked is ended, neither before that nor what has executed
// a program.
func TestOrphans(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	turn, err := Turn(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	handed := os.NewFile(uintptr(turn), dir)
	defer handed.Close()
	criu := exec.Command("sh", "-c", "(read x <"+fifo+") & echo $!; sleep 1000 >/dev/null & echo $!; wait")
	criu.ExtraFiles = make([]*os.File, TurnFD-3+1)
	criu.ExtraFiles[TurnFD-3] = handed
	out, err := criu.StdoutPipe()
	if err == nil {
		err = criu.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var pids [2]int
	for i, lines := 0, bufio.NewReader(out); i < 2; i++ {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		pids[i], _ = strconv.Atoi(strings.TrimSpace(line))
	}
	forked, executed := pids[0], pids[1]
	defer func() { _ = unix.Kill(executed, unix.SIGKILL) }()
	for deadline := time.Now().Add(time.Minute); !procfs.Executed(executed); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("sleep is not executed")
		}
	}
	EndOrphans(dir)
	if procfs.Ending(forked) {
		t.Fatal("it was ended while its parent lived")
	}
	if err := criu.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = criu.Wait()
	EndOrphans(dir)
	for deadline := time.Now().Add(time.Minute); !procfs.Ending(forked); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			_ = unix.Kill(forked, unix.SIGKILL)
			t.Fatal("it lives")
		}
	}
	if procfs.Ending(executed) {
		t.Error("what has executed a program was ended")
	}
}
