package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// request asks a house's agent for one thing.
type request struct {
	// Run are the commands of one run, one after the other. Times says how
	// often it is run (0: once), Workers how many runs go on at a time. No run
	// begins after Limit, and what then still runs a minute later is killed.
	Run     [][]string
	Times   int
	Workers int
	Limit   time.Duration
	// Daemon is started and left to run; its output goes to daemon.log.
	Daemon []string
	// Dial waits until something listens: "tcp" or "unix" and the address.
	Dial [2]string
	// Extra asks for the processes that are neither the house's own nor of
	// these names.
	Extra []string
}

// reply is the agent's answer, a line.
type reply struct {
	Wall      time.Duration // from the first command's start to the last one's end
	Done      int           // runs
	Output    string        // of the last run
	Err       string
	Processes map[string]int // by program
	Private   int64          // KiB of memory that only they have
}

// agent serves the requests; how it forks is the same for every engine.
func agent(p plan) error {
	os.Clearenv()
	for _, kv := range p.Env {
		k, v, _ := strings.Cut(kv, "=")
		if err := os.Setenv(k, v); err != nil {
			return err
		}
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var q request
		if err := in.Decode(&q); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		var r reply
		var err error
		switch {
		case q.Daemon != nil:
			err = daemon(p, q)
		case q.Dial[0] != "":
			err = dial(q)
		case q.Extra != nil:
			err = extra(q, &r)
		default:
			err = runs(q, &r)
		}
		if err != nil {
			r.Err = err.Error()
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}

func daemon(p plan, q request) error {
	log, err := os.Create(filepath.Join(p.Work, "daemon.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(q.Daemon[0], q.Daemon[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release() // it ends with the house
}

func dial(q request) error {
	for deadline := time.Now().Add(q.Limit); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial(q.Dial[0], q.Dial[1])
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// runs does the runs of a request. It stops at the first failure.
func runs(q request, r *reply) error {
	begin := time.Now()
	ctx, cancel := context.WithDeadline(context.Background(), begin.Add(q.Limit+time.Minute))
	defer cancel()
	var (
		mu     sync.Mutex // guards what follows
		begun  int
		failed error
		wg     sync.WaitGroup
	)
	next := func() bool {
		mu.Lock()
		defer mu.Unlock()
		begun++
		return failed == nil && begun <= max(q.Times, 1) && time.Since(begin) <= q.Limit
	}
	for range max(q.Workers, 1) {
		wg.Go(func() {
			for next() {
				out, err := once(ctx, q.Run)
				mu.Lock()
				if r.Output = out; err == nil {
					r.Done++
				} else if failed == nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	r.Wall = time.Since(begin)
	return failed
}

// once does the commands of one run and gives what they have printed.
func once(ctx context.Context, commands [][]string) (string, error) {
	// A file: a monitor that keeps a pipe open would keep us waiting.
	out, err := os.CreateTemp("/run", "out-")
	if err != nil {
		return "", err
	}
	defer out.Close()
	if err := os.Remove(out.Name()); err != nil {
		return "", err
	}
	for _, argv := range commands {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Stdout, cmd.Stderr = out, out
		if err = cmd.Run(); err != nil {
			err = fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
			break
		}
	}
	text, readErr := io.ReadAll(io.NewSectionReader(out, 0, 1<<20))
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, bytes.TrimSpace(text))
	}
	return string(text), readErr
}

// extra sums what processes have besides the containers' own and daemons.
func extra(q request, r *reply) error {
	r.Processes = map[string]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == 1 || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		argv, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		first, _, _ := bytes.Cut(argv, []byte{0})
		name := filepath.Base(string(first))
		rollup, err := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
		if err != nil || len(first) == 0 || slices.Contains(q.Extra, name) {
			continue // ended, or asked not to count
		}
		r.Processes[name]++
		for line := range strings.Lines(string(rollup)) {
			f := strings.Fields(line)
			if len(f) == 3 && (f[0] == "Private_Clean:" || f[0] == "Private_Dirty:") {
				kib, err := strconv.ParseInt(f[1], 10, 64)
				if err != nil {
					return err
				}
				r.Private += kib
			}
		}
	}
	return nil
}
