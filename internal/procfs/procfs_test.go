package procfs

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestStartTime(t *testing.T) {
	own, err := StartTime(os.Getpid())
	if err != nil || own == 0 {
		t.Fatalf("own: %d, %v", own, err)
	}
	time.Sleep(30 * time.Millisecond) // ticks are 10 ms
	cmd := exec.Command("sleep", "10")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	later, err := StartTime(cmd.Process.Pid)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil || later <= own {
		t.Errorf("a later process: %d after %d, %v", later, own, err)
	}
	if _, err := StartTime(cmd.Process.Pid); err == nil {
		t.Error("a process that is gone has a start time")
	}
}
