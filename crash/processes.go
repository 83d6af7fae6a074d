package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is what a process is, as far as its command line tells.
type kind string

const (
	kindCommand  kind = "cove"     // the command that is run
	kindMonitor  kind = "monitor"  // a container's
	kindInit     kind = "init"     // a container's, until its exec; of one that runs, its first process
	kindExec     kind = "exec"     // one more process for a container, until its exec
	kindDriver   kind = "driver"   // stands in their place with another OCI runtime
	kindRuntime  kind = "runtime"  // an OCI runtime, with what it leaves to become the container's
	kindConmon   kind = "conmon"   // and what is going to be it
	kindGuard    kind = "guard"    // of a start with conmon
	kindAide     kind = "aide"     // beside conmon
	kindCleanup  kind = "cleanup"  // conmon's exit command
	kindUplink   kind = "uplink"   // keeps an ordinary user's network program
	kindNetwork  kind = "network"  // that program: pasta, slirp4netns
	kindTracer   kind = "tracer"   // CRIU, at whose work nobody can look: it traces itself
	kindOther    kind = "other"    // the container's own processes, and what else there is
	kindFollowed kind = "followed" // ran before the command
	kindKeeper   kind = "keeper"   // the uplink that is no container's
)

// kindOf tells what a process has become by its exec.
func kindOf(pid int) kind {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return kindOther
	}
	argv := strings.Split(string(line), "\x00")
	if len(argv) > 1 && argv[1] == "drive" {
		return kindDriver
	}
	if at := slices.Index(argv, "cleanup"); at > 0 && argv[at-1] == "container" {
		return kindCleanup
	}
	if slices.Contains(argv, "swrk") { // whatever wrapper it has
		return kindTracer
	}
	name := filepath.Base(argv[0])
	switch name {
	case "cove-monitor":
		return kindMonitor
	case "cove-init":
		return kindInit
	case "cove-exec":
		return kindExec
	case "cove-runtime-driver":
		return kindDriver
	case "cove-conmon", "conmon":
		return kindConmon
	case "cove-guard":
		return kindGuard
	case "cove-aide":
		return kindAide
	case "cove-uplink":
		return kindUplink
	case "slirp4netns":
		return kindNetwork
	case "runc":
		return kindRuntime
	}
	switch {
	case strings.HasPrefix(name, "cove-runtime"):
		return kindRuntime
	case strings.HasPrefix(name, "pasta"): // pasta.avx2, too
		return kindNetwork
	}
	return kindOther
}

func (s *scene) pidFile(name string) string { return filepath.Join(s.work, name+".pid") }

func (s *scene) readPID(name string) (int, error) {
	data, err := os.ReadFile(s.pidFile(name))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

// running gives a process of the container x; 0 for kind "".
func (s *scene) running(k kind) (pid int, err error) {
	switch k {
	case "":
		return 0, nil
	case kindMonitor, kindConmon:
		return s.readPID("monitor")
	case kindInit:
		return s.readPID("init")
	}
	// It may still be on its way.
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for _, pid := range pids() {
			if s.is(pid, k) {
				return pid, nil
			}
		}
	}
	return 0, fmt.Errorf("x has no %s", k)
}

// is tells whether a process is of a kind that x has one of.
func (s *scene) is(pid int, k kind) bool {
	switch k {
	case kindAide:
		return kindOf(pid) == k && s.holds(pid)
	case kindKeeper:
		return kindOf(pid) == kindUplink && usersProcess(pid) != "" && ancestor(pid, func(p int) bool { return kindOf(p) == kindMonitor }) == 0
	}
	monitor, err := s.readPID("monitor")
	return err == nil && kindOf(pid) == k && ancestor(pid, func(p int) bool { return p == monitor }) != 0
}

// ancestor gives the nearest ancestor that is wanted, 0 for none.
func ancestor(pid int, wanted func(int) bool) int {
	for pid > 1 {
		pid, _ = strconv.Atoi(status(pid)["PPid"])
		if wanted(pid) {
			return pid
		}
	}
	return 0
}

// pids lists all processes that there are.
func pids() (all []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// status is /proc/PID/status.
func status(pid int) map[string]string {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	all := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		all[key] = strings.TrimSpace(value)
	}
	return all
}

// usersProcess is the name of a process of the user's, or of one in a container
// of his.
func usersProcess(pid int) string {
	st := status(pid)
	first, _, _ := strings.Cut(st["Uid"], "\t")
	uid, err := strconv.Atoi(first)
	if err != nil || strings.HasPrefix(st["State"], "Z") || uid != user.ID && (uid < user.SubIDs || uid >= user.SubIDs+65536) {
		return ""
	}
	return st["Name"]
}

// holds tells whether a process has something of this store's containers open.
func (s *scene) holds(pid int) bool { return len(s.held(pid, s.root()+"/cove/containers/")) > 0 }

// held lists what below a directory a process has open.
func (s *scene) held(pid int, dir string) (names []string) {
	fds, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	for _, fd := range fds {
		if name, err := os.Readlink(fd); err == nil && strings.HasPrefix(name, dir) {
			names = append(names, name)
		}
	}
	return names
}

// names tells whether a process's command line names something of this scene.
func (s *scene) names(pid int) bool {
	line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return bytes.Contains(line, []byte(s.work+"/"))
}

// processes lists the monitors of this store, and what else stays of it.
func (s *scene) processes() (all []string) {
	for _, pid := range pids() {
		if s.podman {
			line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
			args := strings.Split(string(line), "\x00")
			if at := slices.Index(args, "-c"); filepath.Base(args[0]) == "conmon" && at > 0 && strings.Contains(string(line), s.work) {
				all = append(all, "monitor: "+args[at+1])
			}
			continue
		}
		if name := usersProcess(pid); s.user && name != "" {
			all = append(all, "process: "+name)
		}
		for _, name := range s.held(pid, s.root()+"/cove/containers/") {
			if strings.HasSuffix(strings.TrimSuffix(name, " (deleted)"), "/run") {
				all = append(all, "monitor: "+name)
			}
		}
		if k := kindOf(pid); s.names(pid) || k == kindAide && s.holds(pid) {
			all = append(all, "process: "+string(k))
		}
	}
	return all
}
