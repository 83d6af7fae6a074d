// Command crash kills cove, a container's monitor and its init, or what stands in
// their places, at system calls chosen from all that they make, and looks whether
// anything is lost or left.
//
// For each command it counts the system calls of one whole run, and then, for
// each number drawn, starts from the same state, kills the process as it enters
// that call, and goes on as a user would: the same command once more has to
// succeed or to say exactly what it says after a finished first one; then
// everything is removed with ordinary commands. After both, cove's own check and
// a look at the machine that knows nothing of cove's records have to find
// nothing, and a container that ran beside it all must not have noticed.
//
// With -errno nobody is killed: the call drawn fails with an error that it may
// fail with, a full disk's or a failing one's. The command then has to say so in
// one line, or to succeed, and all else is the same.
//
// With -user all of it happens as an ordinary user, without cgroups, on pasta
// and on bridges in a namespace of his.
//
// It needs root and busybox-static, makes a network and a mount namespace of its
// own and ends with 1 when there was a loss.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/stage"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "trace" {
		os.Exit(traceMain(os.Args[2]))
	}
	if len(os.Args) > 3 && os.Args[1] == "wait" {
		os.Exit(waitMain(os.Args[2:]))
	}
	cove := flag.String("cove", "bin/cove", "the cove to kill")
	kills := flag.Int("kills", 20, "kills for each command and process; 0 is every system call")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "where the drawing begins")
	only := flag.String("only", "", "only the commands, or COMMAND: PROCESS, that match this `REGEX`")
	at := flag.Int("at", 0, "only the system calls from this number on, one after the other")
	sig := flag.Int("signal", int(syscall.SIGKILL), "the signal that kills; SIGTERM, 15, asks to undo")
	errno := flag.String("errno", "", fmt.Sprintf("kill nobody, but have system calls fail: names out of %s, with commas", names(errnos)))
	lasting := flag.Bool("lasting", false, "with -errno: and all later ones")
	podman := flag.Bool("podman", false, "kill podman, with runc, instead: run --rm and rm -f")
	asUser := flag.Bool("user", false, "run everything as an ordinary user; needs passt, slirp4netns and uidmap")
	alone := flag.Bool("alone", false, "without a container beside: with -user every command makes the user's namespace")
	inside := flag.Bool("inside", false, "we are in our own namespaces already")
	flag.Parse()
	if !*inside {
		os.Exit(enter())
	}
	// Between two kills, so that nothing stays; what is under way ends first.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s := &scene{binary: *cove, podman: *podman, user: *asUser, alone: *alone}
	strikes := []strike{{Signal: syscall.Signal(*sig)}}
	if *errno != "" {
		strikes = nil
		for _, name := range strings.Split(*errno, ",") {
			e, ok := errnoOf(name)
			if !ok {
				fmt.Fprintf(os.Stderr, "crash: -errno %s: want some of %s\n", name, names(errnos))
				os.Exit(2)
			}
			strikes = append(strikes, strike{Errno: e, Lasting: *lasting})
		}
	}
	draw := drawing{kills: *kills, at: *at, seed: *seed, random: rand.New(rand.NewPCG(*seed, 0))}
	if err := sweep(ctx, s, strikes, draw, regexp.MustCompile(*only), os.Stdout); err != nil {
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
	signal.Ignore(syscall.SIGINT) // a terminal's is the inner one's, too
	cmd := exec.Command(self, append([]string{"-inside"}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, "crash: needs root:", err)
		}
		return 1
	}
	return 0
}

// drawing is how the calls to strike at are chosen.
type drawing struct {
	kills  int // 0: all
	at     int // not 0: those from this number on
	seed   uint64
	random *rand.Rand
}

// points are the numbers of calls out of so many, from 0.
func (d drawing) points(calls int) []int {
	all := d.random.Perm(calls)
	if d.at > 0 {
		slices.Sort(all)
		all = all[min(d.at-1, calls):]
	}
	if d.kills > 0 && 2*d.kills < len(all) {
		all = all[:2*d.kills] // some may have fewer calls than the first
	}
	return all
}

func sweep(ctx context.Context, s *scene, strikes []strike, draw drawing, only *regexp.Regexp, out io.Writer) (err error) {
	if s.podman {
		s.binary = "/usr/bin/podman"
	} else if s.binary, err = filepath.Abs(s.binary); err != nil {
		return err
	}
	if out, err := exec.Command("sh", "-c", "mount --make-rprivate / && ip link set lo up").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if s.work, err = os.MkdirTemp("", "crash"); err != nil {
		return err
	}
	bad := false
	defer func() {
		if err = errors.Join(err, s.close()); !bad {
			err = errors.Join(err, os.RemoveAll(s.work))
		}
	}()
	if err := s.open(); err != nil {
		return err
	}
	word := "kills"
	if strikes[0].Errno != 0 {
		word = "fails"
	}
	_, _ = fmt.Fprintf(out, "seed %d\n%-28s %-18s %6s %6s %6s %6s\n", draw.seed, "command", "process", "calls", word, "lost", "left")
	var all tally
	for _, d := range s.deeds() {
		for _, r := range d.roles {
			if !only.MatchString(d.name) && !only.MatchString(d.name+": "+r.name) {
				continue
			}
			for _, s.strike = range strikes {
				if s.strike.Errno != 0 && r.victim != "" || ctx.Err() != nil {
					continue // who makes no calls cannot have one fail
				}
				t, err := s.kill(ctx, d, r, draw)
				if err != nil {
					t.add(verdict{lost: err.Error()}, fmt.Sprintf("%s of %q", r.name, d.name))
					_ = s.clean(d)
				}
				_, _ = fmt.Fprintf(out, "%-28s %-18s %6d %6d %6d %6d\n", d.name, strings.TrimSpace(r.name+" "+unix.ErrnoName(s.strike.Errno)), t.calls, t.tried, t.lost, t.left)
				for _, w := range t.words {
					_, _ = fmt.Fprintf(out, "  LOSS %s\n", w)
				}
				all.include(t)
			}
		}
	}
	_, _ = fmt.Fprintf(out, "%d %s, %d lost, %d left, seed %d\n", all.tried, word, all.lost, all.left, draw.seed)
	for _, w := range all.words { // once more, where the end of a log shows it
		_, _ = fmt.Fprintf(out, "  LOSS %s\n", w)
	}
	if bad = len(all.words) > 0; bad {
		return fmt.Errorf("%d losses; what is left of them is in %s", len(all.words), s.work)
	}
	return ctx.Err()
}

// verdict is what is wrong after a kill, "" for nothing: what users lose, an
// answer that is not true or something that they had, and what is left on the
// machine, or differs from what is recorded.
type verdict struct{ lost, left string }

// and is the first that is wrong of either kind.
func (v verdict) and(w verdict) verdict {
	return verdict{lost: cmp.Or(v.lost, w.lost), left: cmp.Or(v.left, w.left)}
}

func (v verdict) fine() bool { return v == verdict{} }

func (v verdict) String() string { return strings.TrimPrefix(v.lost+"; "+v.left, "; ") }

// tally counts kills of one process of one command, or of all.
type tally struct {
	calls, tried, lost, left int
	words                    []string // one for each kill after which something is wrong
}

func (t *tally) add(v verdict, what string) {
	if v.lost != "" {
		t.lost++
	}
	if v.left != "" {
		t.left++
	}
	t.words = append(t.words, what+": "+v.String())
}

func (t *tally) include(u tally) {
	t.tried, t.lost, t.left, t.words = t.tried+u.tried, t.lost+u.lost, t.left+u.left, append(t.words, u.words...)
}

// kill strikes one deed's process at as many of its system calls as asked.
func (s *scene) kill(ctx context.Context, d deed, target role, draw drawing) (t tally, err error) {
	var told answers
	if told, t.calls, err = s.answers(d, target); err != nil {
		return t, err
	}
	for _, p := range draw.points(t.calls) {
		if ctx.Err() != nil || t.tried == draw.kills && draw.kills > 0 {
			break
		}
		if err := s.prepare(d); err != nil {
			return t, fmt.Errorf("after a kill at call %d: %w", p, err)
		}
		r, err := s.trace(d, target, p+1)
		if err != nil {
			return t, err
		}
		if r.struck {
			t.tried++
		}
		v := s.judge(d, target, r, told)
		if v.fine() {
			continue
		}
		what := "killed"
		if r.refused != "" {
			what = r.refused + " refused"
		}
		t.add(v, fmt.Sprintf("%s of %q, %s at call %d of %d (%s)", target.name, d.name, what, p+1, t.calls, r))
		if s.podman { // one kill's harm is not to be counted as the next one's
			if err := s.anew(); err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

// judge goes on as a user would and tells what is wrong.
func (s *scene) judge(d deed, target role, r traced, told answers) (v verdict) {
	switch {
	case r.code < 0:
		v.lost = "the command hung: " + r.String()
		s.endCommands() // or what follows would wait for it
	case r.refused != "":
		v = s.refusal(d, r)
	}
	if v.fine() {
		v.lost = s.onceMore(d, target, r, told)
	}
	if v.fine() {
		for i, shown := range s.shown(d) {
			if shown != told.shown[i] && (told.shownAfterwards == nil || shown != told.shownAfterwards[i]) {
				v.lost = fmt.Sprintf("then %s: %s; it is %s, afterwards %s", strings.Join(d.then[i], " "), shown, told.shown, told.shownAfterwards)
			}
		}
	}
	if v.fine() {
		v.left = s.checked(d)
	}
	return v.and(s.clean(d))
}

// answers is what a user is told when nobody is killed: the first time, the
// second, and when the process that is to die is dead before.
type answers struct {
	first, second, afterwards result
	shown, shownAfterwards    []string // by what follows, see deed.then
}

func (a answers) include(r result) bool {
	return same(r, a.first) || same(r, a.second) || same(r, a.afterwards)
}

// answers tells also how many system calls there are to draw from.
func (s *scene) answers(d deed, target role) (told answers, calls int, err error) {
	// Which process is which is read from /proc, where it may be gone already.
	for attempt := 0; calls == 0; attempt++ {
		if attempt == 5 {
			return told, 0, errors.New("there was none")
		}
		if err := s.prepare(d); err != nil {
			return told, 0, err
		}
		r, err := s.trace(d, target, 0)
		if err != nil {
			return told, 0, err
		}
		if told.first, calls = r.result, r.count; r.code != 0 {
			return told, 0, fmt.Errorf("without a kill: %s", r)
		}
		told.second = s.do(d, d.command)
		told.shown = s.shown(d)
		if v := s.clean(d); !v.fine() {
			return told, 0, fmt.Errorf("without a kill: %s", v)
		}
		if s.strike.Errno != 0 {
			break // it may make none that may fail so
		}
	}
	if target.dies() != "" && s.strike.Errno == 0 {
		told.afterwards, told.shownAfterwards, err = s.afterwards(d, target.dies())
	}
	return told, calls, err
}

// onceMore is what is wrong with the answer to the command after a first one
// that became r.
func (s *scene) onceMore(d deed, target role, r traced, told answers) string {
	again := s.do(d, d.command)
	if d.whole && r.struck && !told.include(again) && s.ranAs(inUse.FindStringSubmatch(again.errors)) {
		again = s.do(d, d.command) // what was started ran still, and had its name
	}
	switch {
	case r.refused != "" && r.code == 0 && told.first.code == 0:
		if same(again, told.second) { // it said that it had done it
			return ""
		}
	case told.include(again):
		return ""
	case target.dies() == kindInit && r.code != 0 && (again.code == 137 || same(again, r.result)):
		// A container takes a moment to die: what joins it meanwhile dies with
		// it, before it is anything or later.
		return ""
	}
	return fmt.Sprintf("once more: %s; the first time it is %s, the second %s, afterwards %s", again, told.first, told.second, told.afterwards)
}

var inUse = regexp.MustCompile(`already in use by ([0-9a-f]{64})`)

// ranAs waits for the end of the container that has a name, and tells whether its
// command was started at all.
func (s *scene) ranAs(holder []string) bool {
	if holder == nil {
		return false
	}
	for deadline := time.Now().Add(grace); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		log, _ := os.ReadFile(filepath.Join(s.root(), "cove", "events.log"))
		for line := range bytes.Lines(log) {
			if bytes.Contains(line, []byte(holder[1])) && bytes.Contains(line, []byte(`"Status":"died"`)) {
				return true
			}
		}
	}
	return false
}

// refusal is what is wrong with a command one of whose calls has failed.
func (s *scene) refusal(d deed, r traced) (v verdict) {
	switch lines := strings.Count(r.errors, "\n"); {
	case strings.Contains(r.errors, "goroutine "):
		v.lost = "it panicked at length"
	case lines > 1 && !s.strike.Lasting: // a later one is another error
		v.lost = "it says more than one line"
	case lines == 0 && r.code != 0:
		v.lost = "it does not say why"
	case r.code == 0, d.resumed: // what is left goes with a later write
	case strings.HasPrefix(r.errors, "Error: panic: "): // that was as good as a kill
	default:
		v.left = s.checked(d) // nothing half-made is left to the command that is repeated
	}
	return v
}

// afterwards is what a user is told when a process of x's is dead before the
// command begins, and what is shown then.
func (s *scene) afterwards(d deed, k kind) (r result, shown []string, err error) {
	if err := s.prepare(d); err != nil {
		return r, nil, err
	}
	pid, err := s.running(k)
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		return r, nil, err
	}
	// One that is frozen dies when it is thawed.
	for deadline := time.Now().Add(2 * time.Second); syscall.Kill(pid, 0) == nil && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	// Until that is known, it is as if it ran.
	for deadline := time.Now().Add(2 * time.Second); k == kindInit && time.Now().Before(deadline); {
		if r := s.do(d, w("inspect -f {{.State.Running}} x")); r.out == "false\n" {
			break
		}
	}
	r = s.do(d, d.command)
	shown = s.shown(d)
	if v := s.clean(d); !v.fine() {
		return r, shown, fmt.Errorf("after a kill before the command: %s", v)
	}
	return r, shown, nil
}

// shown is what users see of what has become of a deed.
func (s *scene) shown(d deed) (all []string) {
	for _, args := range d.then {
		r := s.do(d, args)
		r.out, r.errors = plain(r.out), plain(r.errors)
		all = append(all, r.String())
	}
	return all
}

// do runs a command of a deed's.
func (s *scene) do(d deed, args []string) result { return s.run(slices.Concat(d.flags, args)...) }

func (s *scene) prepare(d deed) error {
	for _, args := range d.prepare {
		if r := s.do(d, args); r.code != 0 {
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
func (s *scene) checked(d deed) string {
	if s.podman {
		return "" // it has no such command for containers
	}
	check := w("system check --quick") // reads no layers
	if d.images {
		check = w("system check")
	}
	var r result
	for deadline := time.Now().Add(grace); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if r = s.run(check...); r.code == 0 && r.out == "" {
			return ""
		}
	}
	return "system check: " + r.String()
}

// ghosts are containers that a list goes on to show although nobody has a name for
// them any more. They are not named before: that would settle them.
func (s *scene) ghosts() string {
	var id string
	for deadline := time.Now().Add(grace); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		id = ""
		r := s.run(w("ps -a --no-trunc --format {{.ID}}/{{.Names}}")...)
		if r.code != 0 {
			return "ps: " + r.String()
		}
		for line := range strings.FieldsFuncSeq(r.out, func(c rune) bool { return c == '\n' }) {
			if first, name, _ := strings.Cut(line, "/"); name != "other" {
				id = first
			}
		}
		if id == "" {
			return ""
		}
	}
	return fmt.Sprintf("ps shows %s, of which inspect says: %s", id, s.run("inspect", "-f", "{{.State.Status}}", id))
}

// clean removes what the deed made and says what is wrong all the same.
func (s *scene) clean(d deed) (v verdict) {
	for _, name := range d.files {
		if err := os.RemoveAll(name); err != nil {
			v.left = err.Error()
		}
	}
	if r := s.lookAtOther(); !s.alone && r.out != s.other {
		return v.and(verdict{lost: fmt.Sprintf("the other container: %s, it was %s", r, s.other)})
	}
	if d.unnamed {
		v = v.and(verdict{lost: s.ghosts()})
	}
	for _, args := range slices.Concat(d.tidy, tidy) {
		if r := s.run(args...); r.code != 0 {
			v = v.and(verdict{lost: fmt.Sprintf("%s: %s", strings.Join(args, " "), r)})
		}
	}
	if problem := s.checked(d); problem != "" {
		return v.and(verdict{left: problem})
	}
	var diff []string
	for deadline := time.Now().Add(grace); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		now, err := s.reality()
		if err != nil {
			return v.and(verdict{left: err.Error()})
		}
		if diff = stage.Difference(s.before, now); len(diff) == 0 {
			return v
		}
	}
	s.before, _ = s.reality() // reported once
	return v.and(verdict{left: strings.Join(diff, "; ")})
}
