package runtime

import (
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/plan"
)

// mappedNamespace makes a user namespace that is nothing but a map. It is made
// around a child of ours that does nothing, and lives on in the descriptor.
func mappedNamespace(m *plan.IDMapping) (int, error) {
	cmd := exec.Command("/proc/self/exe", "pause")
	cmd.Args[0] = MapName
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 unix.CLONE_NEWUSER,
		UidMappings:                sysMap(m.UIDs),
		GidMappings:                sysMap(m.GIDs),
		GidMappingsEnableSetgroups: true,
		Pdeathsig:                  syscall.SIGKILL,
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return -1, err
	}
	if err := cmd.Start(); err != nil {
		return -1, err
	}
	fd, err := openOf(cmd.Process.Pid, "user")
	_ = in.Close() // which it waits for
	_ = cmd.Wait()
	return fd, err
}

// MapName is argv[0] of the child of mappedNamespace.
const MapName = InitName + "-map"

// HoldMap is its life: until its input ends.
func HoldMap() {
	buf := make([]byte, 1)
	for {
		if n, err := os.Stdin.Read(buf); n == 0 || err != nil {
			os.Exit(0)
		}
	}
}

func sysMap(from []plan.IDMap) []syscall.SysProcIDMap {
	var all []syscall.SysProcIDMap
	for _, m := range from {
		all = append(all, syscall.SysProcIDMap{ContainerID: int(m.Inside), HostID: int(m.Outside), Size: int(m.Size)})
	}
	return all
}
