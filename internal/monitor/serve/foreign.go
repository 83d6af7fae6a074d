package serve

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/coldjson"
	"github.com/cove-engine/cove/internal/ctrinit/drive"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// Where another OCI runtime makes the container, a driver stands in init's
// place until the container runs (internal/ctrinit/drive). Its processes
// become our children, because orphans do.

const driverName = "cove-runtime-driver"

// program and execProgram are what is cloned to become the container's init or
// one more process, or to have a runtime make it.
func (m *Monitor) program() string {
	if m.foreign {
		return driverName
	}
	return "cove-init"
}

func (m *Monitor) execProgram() string {
	if m.foreign {
		return driverName
	}
	return "cove-exec"
}

// takeForeign puts the process that a runtime has made in the driver's place.
func (m *Monitor) takeForeign(body []byte) *wire.Failure {
	if !m.foreign {
		return nil
	}
	var ready wire.ReadyBody
	if err := coldjson.Unmarshal(body, &ready); err != nil || ready.PID <= 0 {
		return &wire.Failure{Step: "prepare the container", Text: "the driver has told no process"}
	}
	pidfd, err := unix.PidfdOpen(ready.PID, 0)
	if err != nil {
		return wire.Fail("open the container's process", err)
	}
	m.driver = m.init
	m.init.pid, m.init.pidfd = ready.PID, pidfd
	return nil
}

// driverPatience is what a driver is given to end its runtime.
const driverPatience = 5 * time.Second

// callOffDriver has the driver end its runtime and what that has started, which
// would outlive a driver that is killed.
func (m *Monitor) callOffDriver() {
	d := m.init
	if m.driver.pid != 0 {
		d = m.driver
	}
	_ = unix.Shutdown(m.init.socket, unix.SHUT_WR)
	m.cancel(m.driverTimer)
	m.driverTimer = m.after(driverPatience, func() { _ = unix.PidfdSendSignal(d.pidfd, unix.SIGKILL, nil, 0) })
}

// endDriver reaps the driver, if there is one, which ends once its socket is
// closed.
func (m *Monitor) endDriver() (ws unix.WaitStatus) {
	if m.driver.pid == 0 {
		return 0
	}
	if m.init.socket >= 0 {
		_ = unix.PidfdSendSignal(m.driver.pidfd, unix.SIGKILL, nil, 0)
	}
	_, _ = unix.Wait4(m.driver.pid, &ws, 0, nil)
	_ = unix.Close(m.driver.pidfd)
	m.driver = child{}
	return ws
}

// driverDied is what is said of a driver that has ended without a word.
func driverDied(ws unix.WaitStatus) *wire.Failure {
	text := "what drives its runtime ended with code " + strconv.Itoa(ws.ExitStatus())
	if ws.Signaled() {
		text = "what drives its runtime was ended by a signal: " + ws.Signal().String()
	}
	return &wire.Failure{Step: "start the container", Text: text}
}

// takeForeignExec is takeForeign for an exec, whose driver has nothing more to
// do. False when the process is gone or was never there.
func (m *Monitor) takeForeignExec(e *execution, body []byte) bool {
	var ready wire.ReadyBody
	if coldjson.Unmarshal(body, &ready) != nil || ready.PID <= 0 {
		return false
	}
	pidfd, err := unix.PidfdOpen(ready.PID, 0)
	if err != nil {
		return false
	}
	driver := e.child
	m.replace(e, ready.PID, pidfd)
	e.taken = true
	_ = unix.Close(driver.pidfd)
	_, _ = unix.Wait4(driver.pid, nil, 0, nil)
	return true
}

// deleteForeign has the runtime forget the container, whose directory is still
// in its place, and removes its bundle.
func (m *Monitor) deleteForeign() {
	f := m.env.Foreign
	if f == nil {
		return
	}
	_ = drive.Call(f.Runtime, f.Dir, "delete", []string{"--force", m.env.ID}, 10*time.Second)
	if m.env.Hooks == nil { // they are told of the bundle once more
		_ = os.RemoveAll(f.Dir)
	}
}
