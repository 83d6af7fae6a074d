// Command crash kills cove, a container's monitor and its init at system calls
// chosen from all that they make, and looks whether anything is lost or left.
//
// For each command it counts the system calls of one whole run, and then, for
// each number drawn, starts from the same state, kills the process as it enters
// that call, and goes on as a user would: the same command once more has to
// succeed or to say exactly what it says after a finished first one; then
// everything is removed with ordinary commands. After both, cove's own check and
// a look at the machine that knows nothing of cove's records have to find
// nothing, and a container that ran beside it all must not have noticed.
//
// With -user all of it happens as an ordinary user, without cgroups, on pasta
// and on bridges in a namespace of his.
//
// It needs root and busybox-static, makes a network and a mount namespace of its
// own and ends with 1 when there was a loss.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
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

func main() {
	if len(os.Args) > 1 && os.Args[1] == "trace" {
		os.Exit(traceMain(os.Args[2:]))
	}
	if len(os.Args) > 3 && os.Args[1] == "wait" {
		os.Exit(waitMain(os.Args[2:]))
	}
	cove := flag.String("cove", "bin/cove", "the cove to kill")
	kills := flag.Int("kills", 20, "kills for each command and process; 0 is every system call")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "where the drawing begins")
	only := flag.String("only", "", "only the commands whose name matches this `REGEX`")
	signal := flag.Int("signal", int(syscall.SIGKILL), "the signal that kills; SIGTERM, 15, asks to undo")
	podman := flag.Bool("podman", false, "kill podman, with runc, instead: run --rm and rm -f")
	asUser := flag.Bool("user", false, "run everything as an ordinary user; needs passt and uidmap")
	inside := flag.Bool("inside", false, "we are in our own namespaces already")
	flag.Parse()
	if !*inside {
		os.Exit(enter())
	}
	if err := sweep(&scene{binary: *cove, podman: *podman, user: *asUser, signal: syscall.Signal(*signal)}, *kills, *seed, regexp.MustCompile(*only), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
}

// enter runs this program again in namespaces of its own.
func enter() int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		return 1
	}
	cmd := exec.Command(self, append([]string{"-inside"}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, "crash: needs root:", err)
		}
		return 1
	}
	return 0
}

// deed is a command to kill: what has to be there before, and whose system
// calls are counted.
type deed struct {
	name    string
	prepare [][]string
	command []string
	roles   []role
}

var (
	all    = []role{roleCommand, roleMonitor, roleInit}
	cove   = []role{roleCommand}
	beside = []role{roleCommand, roleItsMonitor, roleItsInit}
)

func (s *scene) deeds() []deed {
	archive, layer := filepath.Join(s.work, "archive.tar"), filepath.Join(s.work, "layer.tar")
	run := func(args ...string) []string {
		start := []string{"run", "-d", "--name", "x", "--conmon-pidfile", filepath.Join(s.work, "monitor.pid"), "--pidfile", filepath.Join(s.work, "init.pid"), image}
		return append(start, args...)
	}
	running := run("sleep", "100000")
	ends := run("sh", "-c", "echo a; sleep 0.3; echo b; sleep 0.3")
	bridged := append([]string{"run", "--network", "podman"}, running[1:]...)
	created := []string{"create", "--name", "x", image, "sleep", "100000"}
	w := strings.Fields
	second := []string{"import", layer, "localhost/second:latest"}
	deeds := []deed{
		{"run", nil, append(w("run --name x -p 127.0.0.1:8123:80 -v vol:/data -v /data2"), image, "true"), all},
		{"run --rm", nil, append(w("run --rm --name x -v /data2"), image, "true"), all},
		{"run -d", nil, running, all},
		{"run --network", [][]string{w("network create n")}, append(w("run --rm --network n --name x"), image, "true"), all},
		{"run hooks", nil, append(w("--hooks-dir "+s.hooks()+" run --name x"), image, "true"), all},
		{"create", nil, created, cove},
		{"start", [][]string{created}, w("start x"), all},
		{"start -a", [][]string{append(w("create --name x"), image, "true")}, w("start -a x"), all},
		{"stop", [][]string{running}, w("stop -t 0 x"), beside},
		{"stop --time", [][]string{run("sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.02; done")}, w("stop -t 20 x"), beside},
		{"restart", [][]string{running}, w("restart -t 0 x"), append(all, roleItsMonitor, roleItsInit)},
		{"exec", [][]string{running}, w("exec x true"), beside},
		{"exec -d", [][]string{running}, w("exec -d x true"), beside},
		{"kill", [][]string{running}, w("kill x"), beside},
		{"pause", [][]string{running}, w("pause x"), beside},
		{"unpause", [][]string{running, w("pause x")}, w("unpause x"), beside},
		{"attach", [][]string{ends}, w("attach x"), beside},
		{"logs -f", [][]string{ends}, w("logs -f x"), beside},
		{"wait", [][]string{ends}, w("wait x"), beside},
		{"update", [][]string{running}, w("update --memory 64m --restart always x"), cove},
		{"rename", [][]string{created}, w("rename x y"), cove},
		{"rm", [][]string{append(w("create --name x -v /data2"), image, "true")}, w("rm -v x"), cove},
		{"rm -f", [][]string{running}, w("rm -f -t 0 x"), beside},
		{"rm -af", [][]string{running}, w("rm -af -t 0 --filter name=x"), beside},
		{"container prune", [][]string{created}, w("container prune -f"), cove},
		{"volume create", nil, w("volume create vol"), cove},
		{"volume rm", [][]string{w("volume create vol")}, w("volume rm vol"), cove},
		{"network create", nil, w("network create n"), cove},
		{"network rm", [][]string{w("network create n")}, w("network rm n"), cove},
		{"network connect", [][]string{w("network create n"), bridged}, w("network connect n x"), cove},
		{"network disconnect", [][]string{w("network create n"), bridged, w("network connect n x")}, w("network disconnect n x"), cove},
		{"load", [][]string{second, w("rmi localhost/second")}, []string{"load", "-q", "-i", archive}, cove},
		{"import", nil, second, cove},
		{"rmi", [][]string{second}, w("rmi localhost/second"), cove},
		{"system migrate", [][]string{running}, w("--db-backend sqlite system migrate"), cove},
		{"system migrate back", [][]string{running, w("--db-backend sqlite system migrate")}, w("--db-backend boltdb system migrate"), cove},
	}
	if s.user {
		// They need a cgroup, which he does not have everywhere.
		return slices.DeleteFunc(deeds, func(d deed) bool { return slices.Contains([]string{"pause", "unpause", "update"}, d.name) })
	}
	if criu := exec.Command("criu", "check").Run(); criu == nil {
		// CRIU traces the container's processes itself: they cannot be
		// followed, neither here nor on their way out of a restore.
		foreign := append([]string{"--runtime", "runc"}, running...)
		deeds = append(deeds, deed{"checkpoint", [][]string{foreign}, w("container checkpoint x"), []role{roleCommand, roleItsMonitor}})
	}
	return deeds
}

// tidy removes what a deed may have made, in a user's words. What is not there
// need not be removed.
var tidy = [][]string{
	{"rm", "-f", "-v", "-t", "0", "x"}, {"rm", "-f", "-v", "-t", "0", "y"}, {"volume", "rm", "-f", "vol"}, {"network", "rm", "-f", "n"},
	{"container", "prune", "-f"},
}

func sweep(s *scene, kills int, seed uint64, only *regexp.Regexp, w io.Writer) (err error) {
	if s.podman {
		s.binary = "/usr/bin/podman"
	} else if s.binary, err = filepath.Abs(s.binary); err != nil {
		return err
	}
	if out, err := exec.Command("sh", "-c", "mount --make-rprivate / && ip link set lo up").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	work, err := os.MkdirTemp("", "crash")
	if err != nil {
		return err
	}
	s.work = work
	if err := s.open(); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(seed, 0))
	_, _ = fmt.Fprintf(w, "seed %d\n%-18s %-8s %6s %6s %6s\n", seed, "command", "process", "calls", "kills", "losses")
	total, lost := 0, []string(nil)
	for _, d := range s.deeds() {
		if !only.MatchString(d.name) || s.podman && d.name != "run --rm" && d.name != "rm -f" {
			continue
		}
		if s.podman {
			d.roles = cove
		}
		for _, r := range d.roles {
			calls, tried, bad, err := s.kill(d, r, kills, random)
			if err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
			_, _ = fmt.Fprintf(w, "%-18s %-8s %6d %6d %6d\n", d.name, r, calls, tried, len(bad))
			for _, b := range bad {
				_, _ = fmt.Fprintf(w, "  LOSS %s\n", b)
			}
			total, lost = total+tried, append(lost, bad...)
		}
	}
	_, _ = fmt.Fprintf(w, "%d kills, %d losses, seed %d\n", total, len(lost), seed)
	for _, l := range lost { // once more, where the end of a log shows it
		_, _ = fmt.Fprintf(w, "  LOSS %s\n", l)
	}
	err = s.close()
	if len(lost) > 0 {
		return errors.Join(fmt.Errorf("%d losses; what is left of them is in %s", len(lost), work), err)
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(work)
}

// kill kills one deed's process at as many of its system calls as asked.
func (s *scene) kill(d deed, target role, kills int, random *rand.Rand) (calls, tried int, losses []string, err error) {
	// What a user is told when nobody is killed, the first and the second time.
	// Which process is which is read from /proc, where it may be gone already.
	var first, second, third result
	for attempt := 0; calls == 0; attempt++ {
		if attempt == 5 {
			return 0, 0, nil, fmt.Errorf("there was no %s", target)
		}
		if err := s.prepare(d); err != nil {
			return 0, 0, nil, err
		}
		if first, calls, _, err = s.trace(target, 0, d.command...); err != nil {
			return 0, 0, nil, err
		}
		if first.code != 0 {
			return 0, 0, nil, fmt.Errorf("without a kill: %s", first)
		}
		second = s.run(d.command...)
		if problem := s.clean(); problem != "" {
			return 0, 0, nil, fmt.Errorf("without a kill: %s", problem)
		}
	}
	if target == roleItsMonitor || target == roleItsInit {
		if third, err = s.afterwards(d, target); err != nil {
			return 0, 0, nil, err
		}
	}
	points := random.Perm(calls)
	if kills > 0 && kills < calls {
		points = points[:kills]
	}
	slices.Sort(points)
	for _, p := range points {
		if err := s.prepare(d); err != nil {
			return calls, tried, losses, fmt.Errorf("after a kill at call %d: %w", p, err)
		}
		r, _, killed, err := s.trace(target, p+1, d.command...)
		if err != nil {
			return calls, tried, losses, err
		}
		if killed {
			tried++
		}
		problem := ""
		if r.code < 0 {
			problem = "the command hung: " + r.String()
		}
		if problem == "" {
			again := s.run(d.command...)
			// A container takes a moment to die: what joins it meanwhile dies with it.
			dying := target == roleItsInit && r.code == 137 && same(again, r)
			if !same(again, first) && !same(again, second) && !same(again, third) && !dying {
				problem = fmt.Sprintf("once more: %s; the first time it is %s, the second %s, afterwards %s", again, first, second, third)
			}
		}
		if problem == "" {
			problem = s.checked()
		}
		if rest := s.clean(); problem == "" {
			problem = rest
		}
		if problem != "" {
			losses = append(losses, fmt.Sprintf("%s of %q killed at call %d of %d (%s): %s", target, d.name, p+1, calls, r, problem))
		}
	}
	return calls, tried, losses, nil
}

// afterwards is what a user is told when x's process is dead before the command
// begins.
func (s *scene) afterwards(d deed, target role) (result, error) {
	if err := s.prepare(d); err != nil {
		return result{}, err
	}
	pid, err := s.running(target)
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		return result{}, err
	}
	// One that is frozen dies when it is thawed.
	for deadline := time.Now().Add(2 * time.Second); syscall.Kill(pid, 0) == nil && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	r := s.run(d.command...)
	if problem := s.clean(); problem != "" {
		return r, fmt.Errorf("after a kill before the command: %s", problem)
	}
	return r, nil
}

func (s *scene) prepare(d deed) error {
	for _, args := range d.prepare {
		if r := s.run(args...); r.code != 0 {
			return fmt.Errorf("%s: %s", strings.Join(args, " "), r)
		}
	}
	return nil
}

// same compares what a user is told.
func same(a, b result) bool {
	return a.code == b.code && plain(a.errors) == plain(b.errors)
}

var identifiers = regexp.MustCompile(`[0-9a-f]{12,64}`)

var logLines = regexp.MustCompile(`(?m)^time="[^"]*" level=warning .*\n?`)

// plain is a message without what differs each time and without podman's
// warnings of what it has mended.
func plain(text string) string {
	return identifiers.ReplaceAllString(logLines.ReplaceAllString(text, ""), "ID")
}

// grace is how long monitors may take for what they still have to do.
const grace = 5 * time.Second

// checked is what cove's own check finds, once monitors had their time.
func (s *scene) checked() string {
	if s.podman {
		return "" // it has no such command for containers
	}
	var r result
	for deadline := time.Now().Add(grace); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if r = s.run("system", "check"); r.code == 0 && r.out == "" {
			return ""
		}
	}
	return "system check: " + r.String()
}

// clean removes what the deed made and says what is left all the same.
func (s *scene) clean() string {
	if r := s.run("inspect", "-f", "{{.State.Pid}} {{.State.Status}} {{.State.StartedAt}}", "other"); r.out != s.other {
		return fmt.Sprintf("the other container: %s, it was %s", r, s.other)
	}
	for _, args := range tidy {
		if r := s.run(args...); r.code != 0 {
			return fmt.Sprintf("%s: %s", strings.Join(args, " "), r)
		}
	}
	_ = s.run("rmi", "-f", "localhost/second")
	if !s.podman {
		if r := s.run("--db-backend", "boltdb", "system", "migrate"); r.code != 0 {
			return "system migrate: " + r.String()
		}
	}
	if problem := s.checked(); problem != "" {
		return problem
	}
	var diff []string
	for deadline := time.Now().Add(grace); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		now, err := s.reality()
		if err != nil {
			return err.Error()
		}
		if diff = stage.Difference(s.before, now); len(diff) == 0 {
			return ""
		}
	}
	s.before, _ = s.reality() // reported once
	return "left: " + strings.Join(diff, "; ")
}
