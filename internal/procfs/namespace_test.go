package procfs

import (
	"os/exec"
	"strings"
	"testing"
)

// A new cgroup namespace is not the first.
func TestFirstCgroupNamespace(t *testing.T) {
	if !FirstCgroupNamespace(t.TempDir() + "/none") {
		t.Error("one that cannot be read is taken for safe")
	}
	sleep := exec.Command("unshare", "-UrC", "sh", "-c", "echo $$; exec sleep 100")
	out, err := sleep.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sleep.Start(); err != nil {
		t.Skip(err)
	}
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	line := make([]byte, 32)
	n, err := out.Read(line)
	if err != nil {
		t.Skip("no namespaces can be made here")
	}
	if FirstCgroupNamespace("/proc/" + strings.TrimSpace(string(line[:n])) + "/ns/cgroup") {
		t.Error("a new one is taken for the first")
	}
}
