package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// density starts containers until so many run and creates so many more, and
// prints on the way how long commands take and what a container costs.
func density(ctx context.Context, s *scene, running, created int) error {
	before, err := s.calm()
	if err != nil {
		return err
	}
	s.hang = time.Hour // the last command removes all of them
	fmt.Printf("%8s %8s %9s %9s %9s %9s %9s %9s %9s %12s\n", "running", "created", "run -d", "run --rm", "create", "rm", "inspect", "exec", "ps -a", "memory each")
	live, idle := 0, 0
	for _, at := range steps(running) {
		for ; live < at && ctx.Err() == nil; live++ {
			if r := s.run(0, append([]string{"run", "-d", "--name", fmt.Sprint("d", live)}, sleeper...)...); r.code != 0 {
				return fmt.Errorf("run -d, with %d running: %s", live, r)
			}
		}
		if err := s.measure(ctx, live, idle); err != nil {
			return err
		}
	}
	for _, at := range steps(created) {
		for ; idle < at && ctx.Err() == nil; idle++ {
			if r := s.run(0, append([]string{"create", "--name", fmt.Sprint("c", idle)}, sleeper...)...); r.code != 0 {
				return fmt.Errorf("create, with %d created: %s", idle, r)
			}
		}
		if err := s.measure(ctx, live, idle); err != nil {
			return err
		}
	}
	begin := time.Now()
	losses := s.emptied(before)
	fmt.Printf("%d removed and looked for in %s\n", live+idle, time.Since(begin).Round(time.Millisecond))
	for _, l := range losses {
		fmt.Println("LOSS", l)
	}
	if len(losses) > 0 {
		return fmt.Errorf("%d losses", len(losses))
	}
	return ctx.Err()
}

// steps are the numbers at which it is measured.
func steps(last int) []int {
	all := []int{last / 50, last / 10, last / 4, last / 2, last}
	return slices.Compact(slices.DeleteFunc(all, func(n int) bool { return n == 0 }))
}

// measure prints one line: medians of a few, one after the other.
func (s *scene) measure(ctx context.Context, live, idle int) error {
	const times = 9
	commands := [][]string{
		append([]string{"run", "-d", "--name", "m"}, sleeper...), {"run", "--rm", image, "true"}, append([]string{"create", "--name", "n"}, sleeper...), {"rm", "n"},
		{"inspect", "d0"}, {"exec", "d0", "true"}, {"ps", "-a", "-q"},
	}
	took := make([][]time.Duration, len(commands))
	for range times {
		for i, args := range commands {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			begin := time.Now()
			r := s.run(0, args...)
			took[i] = append(took[i], time.Since(begin))
			if r.code != 0 {
				return fmt.Errorf("%s: %s", strings.Join(args, " "), r)
			}
		}
		if r := s.run(0, "rm", "-f", "-t", "0", "m"); r.code != 0 {
			return fmt.Errorf("rm -f: %s", r)
		}
	}
	fmt.Printf("%8d %8d", live, idle)
	for _, all := range took {
		slices.Sort(all)
		fmt.Printf(" %7.1fms", float64(all[times/2].Microseconds())/1000)
	}
	private, err := s.private()
	if err != nil {
		return err
	}
	fmt.Printf(" %8d KiB\n", private/max(live, 1))
	return nil
}

// private adds up what this store's monitors have of memory for themselves
// alone, KiB.
func (s *scene) private() (kib int, err error) {
	runs, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, err
	}
	seen := map[string]bool{}
	for _, fd := range runs {
		pid := strings.Split(fd, "/")[2]
		target, err := os.Readlink(fd)
		if err != nil || seen[pid] || !strings.HasPrefix(target, s.root()+"/cove/containers/") || !strings.HasSuffix(target, "/run") {
			continue
		}
		seen[pid] = true
		data, _ := os.ReadFile("/proc/" + pid + "/smaps_rollup") // gone is nothing
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); len(f) > 1 && (f[0] == "Private_Dirty:" || f[0] == "Private_Clean:") {
				n, _ := strconv.Atoi(f[1])
				kib += n
			}
		}
	}
	return kib, nil
}
