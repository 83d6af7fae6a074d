package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cove-engine/cove/internal/stage"
)

// image is what every container of the sweep runs.
const image = "localhost/crash:latest"

// scene is a store with an image in it and a container that runs beside
// whatever is killed, in a network namespace of its own.
type scene struct {
	podman bool // the reference, for comparison
	user   bool // everything is an ordinary user's
	alone  bool // there is no other container, and so no user namespace that lasts
	strike strike
	binary string
	work   string
	env    []string
	// before is what there was on the machine with the other container
	// running and nothing else.
	before []string
	other  string // what inspect says of the other container's process
	// layered is the ID of an image of several layers, in the directory layout.
	layered  string
	registry bool // there is one, which has it, too
}

// result is how a command ended.
type result struct {
	code        int
	out, errors string
}

func (r result) String() string {
	const most = 600 // of a panic
	return fmt.Sprintf("exit %d, %.*q, %.*q", r.code, most, strings.TrimSpace(r.out), most, strings.TrimSpace(r.errors))
}

// limit is how long one command may take: more is a hang, and a loss.
const limit = 60 * time.Second

func (s *scene) root() string { return filepath.Join(s.work, "root") }

func (s *scene) argv(args []string) []string {
	if s.podman {
		return append([]string{s.binary, "--root", s.root(), "--runroot", filepath.Join(s.work, "run"), "--tmpdir", filepath.Join(s.work, "tmp"),
			"--network-config-dir", filepath.Join(s.work, "networks"), "--runtime", "runc"}, args...)
	}
	return append([]string{s.binary, "--root", s.root(), "--runroot", filepath.Join(s.work, "run")}, args...)
}

// run runs one command of the engine.
func (s *scene) run(args ...string) result {
	argv := s.argv(args)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if s.user {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(user.ID), Gid: uint32(user.ID)}
	}
	return s.finish(cmd, nil)
}

// user is who everything is done as with -user.
var user = stage.NewUser("covecrash")

// beUser makes the user, and a place for what is his.
func (s *scene) beUser() error {
	if err := os.MkdirAll("/run/user", 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", "/run/user", "tmpfs", 0, "mode=755"); err != nil {
		return &os.PathError{Op: "mount", Path: "/run/user", Err: err}
	}
	if err := user.Add(); err != nil {
		return err
	}
	s.env = append(s.env, "USER="+user.Name, "XDG_RUNTIME_DIR=/run/user/"+strconv.Itoa(user.ID))
	// His networks' programs want a way out to copy.
	way := "ip link add out type veth peer name away && ip addr add 192.0.2.2/24 dev out && ip link set out up && ip link set away up && ip route add default via 192.0.2.1"
	if out, err := exec.Command("sh", "-c", way).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	// Where it was built may be root's alone.
	binary := filepath.Join(s.work, "cove")
	if out, err := exec.Command("install", "-m", "755", s.binary, binary).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	s.binary = binary
	return filepath.WalkDir(s.work, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, user.ID, user.ID))
	})
}

// finish runs cmd to its end, or kills it at the limit. What it was handed is
// closed here once it has its copy.
func (s *scene) finish(cmd *exec.Cmd, handed *os.File) result {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	// Files, not pipes: a container's processes that keep a copy must not
	// keep us waiting.
	out, errOut := stage.Output(s.work), stage.Output(s.work)
	defer out.Close()
	defer errOut.Close()
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env, out, errOut
	cmd.SysProcAttr.Setsid = true
	err := cmd.Start()
	if handed != nil {
		_ = handed.Close()
	}
	if err != nil {
		return result{code: -1, errors: err.Error()}
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	stop()
	r := result{out: stage.Content(out), errors: stage.Content(errOut)}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		r.code, r.errors = -1, r.errors+"\nit did not end"
	case errors.As(err, &exit):
		if r.code = exit.ExitCode(); r.code < 0 {
			r.code = 137
		}
	case err != nil:
		r.code, r.errors = -1, err.Error()
	}
	return r
}

func (s *scene) hooks() string { return filepath.Join(s.work, "hooks.d") }

// writeHooks writes hooks of which the last is to undo what the first does.
func (s *scene) writeHooks() error {
	if err := os.Mkdir(s.hooks(), 0o755); err != nil {
		return err
	}
	made := filepath.Join(s.work, "tmp", "made")
	for stage, args := range map[string]string{
		"createRuntime": `"/bin/touch","args":["touch","` + made + `"]`, "createContainer": `"/bin/true"`, "poststart": `"/bin/true"`,
		"poststop": `"/bin/rm","args":["rm","-f","` + made + `"]`,
	} {
		text := `{"version":"1.0.0","hook":{"path":` + args + `},"when":{"always":true},"stages":["` + stage + `"]}`
		if err := os.WriteFile(filepath.Join(s.hooks(), stage+".json"), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// open loads the image and starts the other container.
func (s *scene) open() (err error) {
	s.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.work, "LANG=C", "TMPDIR=" + filepath.Join(s.work, "tmp"), "CONTAINERS_CONF=" + filepath.Join(s.work, "containers.conf"),
		"CONTAINERS_STORAGE_CONF=" + filepath.Join(s.work, "storage.conf")}
	for name, text := range map[string]string{
		"containers.conf": "[containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=4096:8192\"]\n" +
			"[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n[network]\nnetwork_backend = \"netavark\"\n",
		"storage.conf": fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n", s.root(), filepath.Join(s.work, "run")),
	} {
		if err := os.WriteFile(filepath.Join(s.work, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(s.work, "tmp"), 0o755); err != nil {
		return err
	}
	if err := errors.Join(s.writeHooks(), s.writeWholePages()); err != nil {
		return err
	}
	if err := stage.WriteLayer(filepath.Join(s.work, "layer.tar")); err != nil {
		return err
	}
	if s.layered, err = writeLayout(filepath.Join(s.work, "layout")); err != nil {
		return err
	}
	if s.user {
		if err := s.beUser(); err != nil {
			return err
		}
	}
	if err := s.openRegistry(); err != nil {
		return err
	}
	commands := [][]string{
		{"import", filepath.Join(s.work, "layer.tar"), image},
		{"save", "-q", "-o", filepath.Join(s.work, "archive.tar"), image},
		{"run", "-d", "--name", "other", "-p", "127.0.0.1:7777:7777", image, "sleep", "1000000"},
	}
	if s.alone { // what is made once and stays is to be there all the same
		commands = append(commands, []string{"rm", "-f", "-t", "0", "other"})
	}
	for _, args := range commands {
		if r := s.run(args...); r.code != 0 {
			return fmt.Errorf("%s: %s", strings.Join(args, " "), r)
		}
	}
	if !s.alone {
		s.other = s.lookAtOther().out
	}
	s.before, err = s.reality()
	return err
}

func (s *scene) lookAtOther() result {
	return s.run("inspect", "-f", "{{.State.Pid}} {{.State.Status}} {{.State.StartedAt}}", "other")
}

// close removes everything, whatever has happened before, but for the directory.
func (s *scene) close() error {
	var errs []error
	if r := s.run("rm", "-af", "-t", "0"); r.code != 0 {
		errs = append(errs, errors.New("rm -af: "+r.String()))
	}
	// What a loss has left.
	for _, pid := range pids() {
		if s.names(pid) || s.holds(pid) || s.user && usersProcess(pid) != "" {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	for _, dir := range s.cgroups() {
		members, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for word := range strings.FieldsSeq(string(members)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	// podman's mount of its store's directory on itself, when it was killed.
	if err := syscall.Unmount(filepath.Join(s.root(), "overlay"), syscall.MNT_DETACH); err != nil && err != syscall.EINVAL && err != syscall.ENOENT {
		errs = append(errs, &os.PathError{Op: "unmount", Path: s.root(), Err: err})
	}
	return errors.Join(errs...)
}

// anew makes the scene once more, whatever has become of the one before.
func (s *scene) anew() error {
	_ = s.close()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, line := range slices.Backward(strings.Split(string(mounts), "\n")) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], s.work+"/") {
			_ = syscall.Unmount(f[4], syscall.MNT_DETACH)
		}
	}
	for _, dir := range s.cgroups() {
		_ = os.Remove(dir)
	}
	if err := os.RemoveAll(s.work); err != nil {
		return err
	}
	if err := os.Mkdir(s.work, 0o700); err != nil {
		return err
	}
	return s.open()
}

// endCommands ends commands that hang.
func (s *scene) endCommands() {
	for _, pid := range pids() {
		if program, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe"); program != "" && s.names(pid) && (program == s.binary || filepath.Base(program) == "cove-full") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// caches may be there or not.
var caches = regexp.MustCompile(`/cove/(images|seccomp|bin)/|/cove/store-id$|/cove/runtimes(/|$)|/cove/net(ns|work)$|/events\.log\.1$`)

// reality lists what an engine can leave behind, independently of what cove
// itself can find out.
func (s *scene) reality() ([]string, error) {
	all, err := stage.Host(s.work, counters)
	if err != nil {
		return nil, err
	}
	dirs := []string{s.root() + "/cove", s.work + "/run/cove", s.work + "/tmp"}
	for _, pattern := range []string{"overlay/*", "overlay-images/*", "overlay-containers/*", "overlay-layers/*"} {
		found, _ := filepath.Glob(filepath.Join(s.root(), pattern))
		for _, f := range found {
			if !strings.HasSuffix(f, ".json") && !strings.HasSuffix(f, ".lock") {
				all = append(all, "image store: "+f)
			}
		}
	}
	if s.podman {
		dirs = []string{s.root() + "/overlay-containers"} // its containers' own
	}
	for _, c := range s.cgroups() {
		all = append(all, "cgroup: "+c)
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if s.podman && path != dir && filepath.Dir(path) != dir || strings.HasSuffix(path, ".lock") {
				return nil
			}
			if caches.MatchString(path) {
				return nil
			}
			if d != nil && d.IsDir() && strings.Contains(path, "/cove/names") {
				return nil // of networks, by name
			}
			all = append(all, "file: "+path)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	all = append(all, s.processes()...)
	slices.Sort(all)
	return all, nil
}

// cgroups lists those of this scene's containers.
func (s *scene) cgroups() (dirs []string) {
	all, _ := filepath.Glob("/sys/fs/cgroup/*/cove/*")
	theirs, _ := filepath.Glob("/sys/fs/cgroup/*/libpod_parent/libpod-*")
	for _, c := range append(all, theirs...) {
		id := strings.TrimPrefix(strings.TrimPrefix(filepath.Base(c), "libpod-"), "conmon-")
		if fi, err := os.Stat(c); err == nil && fi.IsDir() && (s.ours(id) || s.mountedIn(c)) {
			dirs = append(dirs, c)
		}
	}
	return dirs
}

// mountedIn tells whether a process in a cgroup has something of this scene
// mounted: it may be in one whose container nobody has told of.
func (s *scene) mountedIn(cgroup string) bool {
	members, _ := os.ReadFile(filepath.Join(cgroup, "cgroup.procs"))
	for pid := range strings.FieldsSeq(string(members)) {
		if mounts, err := os.ReadFile("/proc/" + pid + "/mountinfo"); err == nil && bytes.Contains(mounts, []byte(s.work+"/")) {
			return true
		}
	}
	return false
}

// ours tells whether a container's ID is known to this scene: other engines
// may be at work on the machine.
func (s *scene) ours(id string) bool {
	for _, dir := range []string{"containers", "removed"} {
		if _, err := os.Lstat(filepath.Join(s.root(), "cove", dir, id)); err == nil {
			return true
		}
	}
	for _, log := range []string{"root/cove/events.log", "tmp/events/events.log"} {
		if data, err := os.ReadFile(filepath.Join(s.work, log)); err == nil && bytes.Contains(data, []byte(id)) {
			return true
		}
	}
	return false
}

var counters = regexp.MustCompile(`^\d+: |NO-CARRIER,|counter packets \d+ bytes \d+|valid_lft.*|state (UP|DOWN|UNKNOWN|LOWERLAYERDOWN) .*`)
