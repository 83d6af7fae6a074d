package serve

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/ctrinit/drive"
	"github.com/cove-engine/cove/internal/monitor/runfile"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// A CRIU that has lost its driver and ended the container is waited for as long as it lives:
// the checkpoint is complete then.
func TestCRIUIsAwaited(t *testing.T) {
	m := looping(t)
	dir := t.TempDir()
	f, err := runfile.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m.record = f
	ended := exec.Command("true")
	if err := ended.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ended.Wait() }()
	if m.init.pidfd, err = unix.PidfdOpen(ended.Process.Pid, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(m.init.pidfd)
	for deadline := time.Now().Add(10 * time.Second); !m.initEnded(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("true does not end")
		}
	}
	images := wire.Images{Dir: filepath.Join(dir, "checkpoint"), Work: filepath.Join(dir, "criu")}
	for _, name := range []string{images.Dir + drive.Unfinished + "/inventory.img", images.Work + "/stats-dump"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	turn, err := drive.Turn(dir, 0) // CRIU has it
	if err != nil {
		t.Fatal(err)
	}
	m.dump = &dump{client: &client{m: m, fd: -1, spill: -1}, body: wire.CheckpointBody{Images: images}, until: time.Now().Add(-time.Second)}
	m.awaitCRIU()
	if m.dump == nil {
		t.Fatal("it was given up")
	}
	_ = unix.Close(turn)
	for m.dump != nil {
		m.step()
	}
	if _, err := os.Lstat(images.Dir + "/inventory.img"); err != nil || !m.dumped {
		t.Errorf("checkpointed: %t; %v", m.dumped, err)
	}
}
