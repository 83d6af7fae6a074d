package serve

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
)

// TestGiveUpCalledOff: a start that is called off has failed in nothing, and that is no
// reason to die of.
func TestGiveUpCalledOff(t *testing.T) {
	if os.Getenv("COVE_TEST_GIVE_UP") != "" {
		newMonitor().giveUp(nil)
	}
	ours, theirs, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ours)
	socket := os.NewFile(uintptr(theirs), "control")
	child := exec.Command("/proc/self/exe", "-test.run=^TestGiveUpCalledOff$")
	child.Env = append(os.Environ(), "COVE_TEST_GIVE_UP=1")
	child.ExtraFiles = []*os.File{socket}
	out, _ := child.CombinedOutput()
	_ = socket.Close()
	if code := child.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, not 1: %s", code, out)
	}
}
