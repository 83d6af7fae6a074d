package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cove-engine/cove/internal/stage"
)

// image is what every container runs.
const image = "localhost/storm:latest"

// scene is a store with an image in it, in a network namespace of its own.
type scene struct {
	binary string
	work   string
	env    []string
	hang   time.Duration // how long a command may take at most
}

// result is how a command ended.
type result struct {
	code        int
	out, errors string
	err         error // it could not be started, or did not end
}

func (r result) String() string {
	s := fmt.Sprintf("exit %d, %q, %q", r.code, strings.TrimSpace(r.out), strings.TrimSpace(r.errors))
	if r.err != nil {
		s += ", " + r.err.Error()
	}
	return s
}

// grace is how long monitors may take for what they still have to do. The
// machine may be loaded by others.
const grace = 20 * time.Second

func (s *scene) root() string { return filepath.Join(s.work, "root") }

// run runs one command of cove; limit, if not 0, is how long it is waited for
// before it is ended by SIGTERM, which is no fault.
func (s *scene) run(limit time.Duration, args ...string) result {
	out, errOut := stage.Output(s.work), stage.Output(s.work)
	defer out.Close()
	defer errOut.Close()
	cmd := exec.Command(s.binary, append([]string{"--root", s.root(), "--runroot", filepath.Join(s.work, "run")}, args...)...)
	// Files, not pipes: a container's processes that keep a copy must not
	// keep us waiting.
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env, out, errOut
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return result{code: -1, err: err}
	}
	if limit > 0 {
		defer time.AfterFunc(limit, func() { _ = cmd.Process.Signal(syscall.SIGTERM) }).Stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.hang)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		_ = cmd.Process.Signal(syscall.SIGQUIT) // it tells where it hangs
		time.Sleep(5 * time.Second)
		_ = cmd.Process.Kill()
	})
	err := cmd.Wait()
	stop()
	r := result{out: stage.Content(out), errors: stage.Content(errOut)}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		r.code, r.err = -1, errHung
	case errors.As(err, &exit):
		if r.code = exit.ExitCode(); r.code < 0 {
			r.code = 128 + int(exit.Sys().(syscall.WaitStatus).Signal())
		}
	case err != nil:
		r.code, r.err = -1, err
	}
	return r
}

// open writes the configuration and imports the image.
func (s *scene) open(lockType, backend string) error {
	s.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.work, "LANG=C", "CONTAINERS_CONF=" + filepath.Join(s.work, "containers.conf"),
		"CONTAINERS_STORAGE_CONF=" + filepath.Join(s.work, "storage.conf"), "COVE_TEST_LOCK_ORDER=1"}
	conf := "[containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=4096:8192\"]\n[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nevents_logfile_max_size = \"1g\"\n"
	if backend != "" {
		conf += fmt.Sprintf("database_backend = %q\n", backend)
	}
	if lockType != "" {
		conf += fmt.Sprintf("lock_type = %q\nnum_locks = 8192\n", lockType)
	}
	for name, text := range map[string]string{
		"containers.conf": conf,
		"storage.conf":    fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n", s.root(), filepath.Join(s.work, "run")),
	} {
		if err := os.WriteFile(filepath.Join(s.work, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	layer := filepath.Join(s.work, "layer.tar")
	if err := stage.WriteLayer(layer); err != nil {
		return err
	}
	// The first run makes what stays: the default network's bridge, caches.
	for _, args := range [][]string{{"import", layer, image}, {"run", "--rm", image, "true"}, {"container", "prune", "-f"}} {
		if r := s.run(0, args...); r.code != 0 {
			return fmt.Errorf("%s: %s", strings.Join(args, " "), r)
		}
	}
	return nil
}

// close removes everything.
func (s *scene) close() error {
	if r := s.run(0, "rm", "-af", "-t", "0"); r.code != 0 {
		return errors.New(r.String())
	}
	return nil
}

// link is a container's, as reality lists it.
var link = regexp.MustCompile(`^ip: \d+: cv`)

// calm is reality before the storm. The kernel takes the links of the first
// container down by itself, some time after its end.
func (s *scene) calm() ([]string, error) {
	for deadline := time.Now().Add(grace); ; time.Sleep(100 * time.Millisecond) {
		all, err := s.reality()
		if err != nil || !slices.ContainsFunc(all, link.MatchString) {
			return all, err
		}
		if time.Now().After(deadline) {
			return nil, errors.New("the first container's link does not go")
		}
	}
}

// checked is what cove's own check finds, once monitors had their time.
func (s *scene) checked() string {
	var r result
	for deadline := time.Now().Add(grace); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if r = s.run(0, "system", "check"); r.code == 0 && r.out == "" {
			return ""
		}
	}
	return "system check: " + r.String()
}

// emptied removes everything by ordinary commands and tells what is left all
// the same.
func (s *scene) emptied(before []string) (losses []string) {
	for _, args := range [][]string{{"rm", "-af", "-t", "0"}, {"volume", "prune", "-f", "--all"}, {"network", "prune", "-f"}, {"container", "prune", "-f"}} {
		if r := s.run(0, args...); r.code != 0 {
			losses = append(losses, fmt.Sprintf("%s: %s", strings.Join(args, " "), r))
		}
	}
	if problem := s.checked(); problem != "" {
		losses = append(losses, problem)
	}
	var left []string
	for deadline := time.Now().Add(grace); ; time.Sleep(200 * time.Millisecond) {
		now, err := s.reality()
		if err != nil {
			return append(losses, err.Error())
		}
		left = stage.Difference(before, now)
		if len(left) == 0 || time.Now().After(deadline) {
			return append(losses, left...)
		}
	}
}

var counters = regexp.MustCompile(`counter packets \d+ bytes \d+|valid_lft.*|<[A-Z,_-]*>|state (UP|DOWN|LOWERLAYERDOWN) .*`)

// reality lists what an engine can leave behind, independently of what cove
// itself can find out.
func (s *scene) reality() (all []string, err error) {
	all, err = stage.Host(s.work, counters)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{filepath.Join(s.root(), "cove"), filepath.Join(s.work, "run")} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			for _, cache := range []string{"/cove/images/", "/cove/seccomp/", "/cove/bin/", "/events.log", ".lock", "/cove/names"} {
				if strings.Contains(path, cache) {
					return nil
				}
			}
			all = append(all, "file: "+path)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	log, err := os.ReadFile(filepath.Join(s.root(), "cove/events.log"))
	if err != nil {
		return nil, err
	}
	seen := string(log)
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/cove/*")
	unified, _ := filepath.Glob("/sys/fs/cgroup/cove/*")
	for _, g := range append(groups, unified...) {
		if strings.Contains(seen, filepath.Base(g)) { // other stores have theirs there too
			all = append(all, "cgroup: "+g)
		}
	}
	monitors, err := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range monitors {
		target, err := os.Readlink(fd)
		if err == nil && strings.HasPrefix(target, s.root()+"/cove/") && strings.HasSuffix(strings.TrimSuffix(target, " (deleted)"), "/run") {
			all = append(all, "process: "+strings.Split(fd, "/")[2]+" has "+target)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), err
}
