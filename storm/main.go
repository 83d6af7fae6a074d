// Command storm lets many processes at once do what users do, on few names, so
// that they are always in each other's way, and looks whether each was told
// what can be true, and whether anything is lost or left in the end.
//
// Each worker starts one command of cove after the other, drawn from a printed
// seed: on 36 names of containers, 8 of volumes and 6 of networks. What a
// command is told tells something about a name at some moment between its
// beginning and its end; when no order of these moments makes all of it true,
// that is a loss (see register). So are an answer that no such command may
// give, and a command that does not end. Afterwards cove's own check and a look
// at the machine that knows nothing of cove's records have to find nothing.
//
// With -density it starts and creates containers by the hundred instead and
// prints what commands cost as they become more (see density.go).
//
// It needs root and busybox-static, makes a network and a mount namespace of
// its own and ends with 1 when there was a loss.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"context"
)

type options struct {
	cove     string
	lockType string
	backend  string
	seed     uint64
	workers  int
	lasting  time.Duration
	verbose  bool
}

func main() {
	var o options
	flag.StringVar(&o.cove, "cove", "bin/cove", "the cove to use")
	flag.StringVar(&o.lockType, "lock-type", "", "containers.conf's lock_type")
	flag.StringVar(&o.backend, "db-backend", "", "containers.conf's database_backend")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "where the drawing begins")
	flag.IntVar(&o.workers, "workers", 64, "how many processes at once")
	flag.DurationVar(&o.lasting, "for", time.Minute, "for how long")
	flag.BoolVar(&o.verbose, "v", false, "print every command")
	running := flag.Int("density", 0, "instead: start this many containers")
	created := flag.Int("created", 5000, "with -density: create this many more")
	inside := flag.Bool("inside", false, "we are in our own namespaces already")
	flag.Parse()
	if !*inside {
		os.Exit(enter())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := inScene(o, func(s *scene) error {
		if *running > 0 {
			return density(ctx, s, *running, *created)
		}
		return storm(ctx, s, o)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		stop()
		os.Exit(1)
	}
}

// enter runs this program again in namespaces of its own.
func enter() int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		return 1
	}
	cmd := exec.Command(self, append([]string{"-inside"}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	signal.Ignore(os.Interrupt) // the one inside decides
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, "storm: needs root:", err)
		}
		return 1
	}
	return 0
}

// inScene does something in a scene, which it removes unless that fails.
func inScene(o options, do func(*scene) error) error {
	binary, err := filepath.Abs(o.cove)
	if err != nil {
		return err
	}
	if out, err := exec.Command("sh", "-c", "mount --make-rprivate / && ip link set lo up").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	work, err := os.MkdirTemp("", "storm")
	if err != nil {
		return err
	}
	s := &scene{binary: binary, work: work, hang: 2 * time.Minute}
	if err := s.open(o.lockType, o.backend); err != nil {
		return err
	}
	if err := do(s); err != nil {
		return fmt.Errorf("%w; what is left of it is in %s", err, work)
	}
	if err := s.close(); err != nil {
		return err
	}
	return os.RemoveAll(work)
}

func storm(ctx context.Context, s *scene, o options) error {
	fmt.Printf("seed %d, %d processes for %s\n", o.seed, o.workers, o.lasting)
	before, err := s.calm()
	if err != nil {
		return err
	}
	w := &weather{scene: s, options: o}
	acts := w.blow(ctx)
	losses := w.losses
	losses = append(losses, w.quiet(acts)...)
	report(os.Stdout, acts)
	losses = append(losses, s.emptied(before)...)
	for _, l := range losses {
		fmt.Println("LOSS", l)
	}
	fmt.Printf("%d commands, %d losses\n", len(acts), len(losses))
	if len(losses) > 0 {
		return fmt.Errorf("%d losses (seed %d)", len(losses), o.seed)
	}
	return nil
}

// report prints how often each kind of command was done and how long it took.
func report(out *os.File, acts []act) {
	took := map[string][]time.Duration{}
	answers := map[string]map[string]int{}
	for _, a := range acts {
		took[a.deed] = append(took[a.deed], a.end.Sub(a.begin))
		if answers[a.deed] == nil {
			answers[a.deed] = map[string]int{}
		}
		answers[a.deed][a.answer]++
	}
	names := make([]string, 0, len(took))
	for name := range took {
		names = append(names, name)
	}
	slices.Sort(names)
	_, _ = fmt.Fprintf(out, "%-16s %6s %8s %8s  %s\n", "command", "times", "median", "longest", "answers")
	for _, name := range names {
		all := took[name]
		slices.Sort(all)
		_, _ = fmt.Fprintf(out, "%-16s %6d %7dms %7dms  %v\n", name, len(all), all[len(all)/2].Milliseconds(), all[len(all)-1].Milliseconds(), answers[name])
	}
}

var errHung = errors.New("it did not end")
