// A monitor has one thread for Go code whatever the cgroup allows; watching the
// cgroup for a change costs two descriptors and a timer.
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command cove-monitor is the small program beside every container: started
// by cove it is the container's monitor, started by the monitor it is the
// container's init, or the process that exec puts into it. It is not for
// people to call.
package main

import (
	"os"
	"runtime"
	"time"

	"github.com/cove-engine/cove/internal/ctrinit"
	"github.com/cove-engine/cove/internal/ctrinit/drive"
	"github.com/cove-engine/cove/internal/monitor/serve"
	"github.com/cove-engine/cove/internal/monitor/uplink"
	"github.com/cove-engine/cove/internal/sysmon"
)

// Only a lock taken during initialisation keeps main on the process's main
// thread (package runtime): the one whose death init is told of, and the one
// whose credentials and namespaces exec keeps.
func init() { runtime.LockOSThread() }

func main() {
	sysmon.Calm(5 * time.Millisecond)
	switch os.Args[0] {
	case "cove-init", "cove-exec":
		ctrinit.Main()
	case "cove-runtime-driver":
		drive.Main()
	case "cove-aide":
		serve.Aide()
	case "cove-conmon":
		serve.Become()
	case "cove-guard":
		drive.Guard(os.Args[1:])
	case "cove-uplink":
		uplink.Main()
	case "/run/podman-init":
		ctrinit.Reaper(os.Args[1:])
	}
	if len(os.Args) > 2 && os.Args[1] == "drive" { // by conmon
		drive.Create(os.Args[2:])
	}
	if len(os.Args) == 4 && os.Args[0] == "cove-monitor" {
		serve.Main(os.Args[1:])
	}
	_, _ = os.Stderr.WriteString("cove-monitor is started by cove, which watches containers with it; it does nothing by itself\n")
	os.Exit(125)
}
