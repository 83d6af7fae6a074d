package serve

import (
	"bytes"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/cgroup/tasks"
	"github.com/cove-engine/cove/internal/monitor/wire"
)

// enterCgroups joins the monitors' cgroups. It takes a lock against every fork and
// exit of the system, and with it some milliseconds: whoever can is born in its cgroup
// (version 2) or moves a single thread (version 1, see ctrinit).
//
// All stores share them, and the reset of another one removes them where nobody is in:
// one that has gone since it was made is made again.
func enterCgroups(dirs []string) *wire.Failure {
	for _, dir := range dirs {
		err := writeFile(dir+"/cgroup.procs", []byte("0"))
		for tries := 0; (err == unix.ENOENT || err == unix.ENODEV) && tries < 10; tries++ {
			_ = unix.Mkdir(dir, 0o755)
			err = writeFile(dir+"/cgroup.procs", []byte("0"))
		}
		if err != nil {
			return wire.Fail("join cgroup "+dir, err)
		}
	}
	return nil
}

// legacyCgroups are the container's of version 1.
func (m *Monitor) legacyCgroups() (dirs []string) {
	for _, dir := range m.env.Cgroups {
		if dir != m.env.Unified {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// initCgroup is the version 2 cgroup that init is in now: one below its
// container's, if it has made some.
func (m *Monitor) initCgroup() string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(m.init.pid) + "/cgroup")
	if err != nil {
		return m.env.Unified
	}
	own := "/" + path.Base(m.env.Unified) + "/"
	for line := range strings.Lines(string(data)) {
		at, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if _, below, found := strings.Cut(at, own); ok && found {
			return m.env.Unified + "/" + below
		}
	}
	return m.env.Unified
}

// standsStill tells that a cgroup of the container's is frozen, by a user or by the
// container itself: whoever is born there, or moves in, becomes a program when it thaws.
// It may freeze right after the answer: whoever has a child born there in a container
// that runs does not wait for its exec, see bear. cgroup is the one of version 2 that is
// meant, the container's or one below it.
func (m *Monitor) standsStill(cgroup string) bool {
	above := m.env.Unified // of which its events tell
	for _, dir := range m.env.Cgroups {
		switch {
		case strings.Contains(dir, "/freezer/"):
			if data, err := os.ReadFile(dir + "/freezer.state"); err == nil && !bytes.HasPrefix(data, []byte("THAWED")) {
				return true
			}
		case len(m.env.Cgroups) == 1:
			above = dir // another OCI runtime's of version 2
		}
	}
	if data, err := os.ReadFile(above + "/cgroup.events"); above != "" && err == nil && bytes.Contains(data, []byte("frozen 1\n")) {
		return true
	}
	for dir := cgroup; m.env.Unified != "" && len(dir) >= len(m.env.Unified); dir = path.Dir(dir) {
		if data, err := os.ReadFile(dir + "/cgroup.freeze"); err == nil && len(data) > 0 && data[0] == '1' {
			return true
		}
	}
	return false
}

// thaw lets the container's cgroups go on, which its last run may have left frozen: the
// next init would stand still in them.
func (m *Monitor) thaw() {
	for _, dir := range m.env.Cgroups {
		_ = writeFile(dir+"/cgroup.freeze", []byte("0"))
		_ = writeFile(dir+"/freezer.state", []byte("THAWED")) // version 1
	}
}

func writeFile(name string, data []byte) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, data)
	_ = unix.Close(fd)
	return err
}

// liftTasks lifts a limit of tasks in the version 2 cgroup that init is going to be
// born in, if its threads would meet it, until limitTasks.
func (m *Monitor) liftTasks(cgroup string) {
	if cgroup == "" {
		return
	}
	if limit, limited := tasks.Limit(cgroup); limited && limit < tasks.Ours && writeFile(cgroup+"/pids.max", []byte("max")) == nil {
		m.tasks = strconv.Itoa(limit)
	}
}

// limitTasks sets the limit that was lifted, unless somebody has set one since.
func (m *Monitor) limitTasks() error {
	limit := m.tasks
	m.tasks = ""
	if limit == "" {
		return nil
	}
	if _, limited := tasks.Limit(m.env.Unified); limited {
		return nil
	}
	return writeFile(m.env.Unified+"/pids.max", []byte(limit))
}

// emptyCgroups kills whatever is left in the container's cgroups: with a
// shared pid namespace, or a dead init that was not reaped, there may be
// survivors. It returns once they are empty, or after two seconds.
func (m *Monitor) emptyCgroups() {
	m.killStrays()
	if m.unpopulated() {
		return
	}
	deadline := time.Now().Add(2 * time.Second)
	for wait := time.Millisecond; ; wait *= 2 {
		left := false
		for _, dir := range m.env.Cgroups {
			if m.killAll(dir, wait > 50*time.Millisecond) {
				left = true
			}
		}
		if !left || time.Now().After(deadline) {
			return
		}
		time.Sleep(wait)
	}
}

// unpopulated tells that nobody is in the container's version 2 cgroup or
// below it, nor therefore in the others, which a process enters and leaves
// with it. Version 1 has no such word for it.
func (m *Monitor) unpopulated() bool {
	if m.env.Unified == "" {
		return false
	}
	data, err := os.ReadFile(m.env.Unified + "/cgroup.events")
	return err == nil && bytes.Contains(data, []byte("populated 0\n"))
}

// killAll kills every process of a cgroup and of those below it, and tells
// whether there were any. All at once is for those that fork faster than they
// are killed one by one, see birthless.
func (m *Monitor) killAll(dir string, atOnce bool) bool {
	data, err := os.ReadFile(dir + "/cgroup.procs")
	if err != nil {
		return false
	}
	found := len(bytes.TrimSpace(data)) > 0
	for line := range strings.FieldsSeq(string(data)) {
		if pid, err := strconv.Atoi(line); err == nil && pid > 1 && pid != os.Getpid() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	if found && atOnce && writeFile(dir+"/cgroup.kill", []byte("1")) == nil { // version 2 only
		m.birthless = true
	}
	for _, sub := range subdirs(dir) {
		if m.killAll(sub, atOnce) {
			found = true
		}
	}
	return found
}

func subdirs(dir string) (subs []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			subs = append(subs, dir+"/"+e.Name())
		}
	}
	return subs
}

// removeCgroups removes the container's cgroups with what it made below them,
// and tells whether all are gone.
func (m *Monitor) removeCgroups() bool {
	gone := true
	for _, dir := range m.env.Cgroups {
		gone = removeCgroup(dir) && gone
	}
	return gone
}

func removeCgroup(dir string) bool {
	// A cgroup stays busy for a moment after its last process was reaped.
	for wait := 100 * time.Microsecond; wait < 200*time.Millisecond; wait *= 2 {
		if rmdirAll(dir) {
			return true
		}
		time.Sleep(wait)
	}
	return false
}

// rmdirAll tries once to remove a cgroup and those below it: a container may have
// made so many that a second try for each would never come to an end.
func rmdirAll(dir string) bool {
	err := unix.Rmdir(dir)
	if err != nil && err != unix.ENOENT {
		for _, sub := range subdirs(dir) {
			rmdirAll(sub)
		}
		err = unix.Rmdir(dir)
	}
	return err == nil || err == unix.ENOENT
}
