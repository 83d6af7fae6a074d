package interrupt

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cove-engine/cove/internal/interrupt/early"
)

// roleVar makes this program a command that waits for signals.
const roleVar = "INTERRUPT_TEST_ROLE"

func TestMain(m *testing.M) {
	role := os.Getenv(roleVar)
	if role == "" {
		os.Exit(m.Run())
	}
	after := time.Duration(0)
	if strings.HasPrefix(role, "early") {
		after = 200 * time.Millisecond
	}
	ctx := Context(after)
	signals := make(chan os.Signal, 3)
	switch role {
	case "forwards":
		Forward(signals, syscall.SIGINT, syscall.SIGTERM)
	case "asks":
		Ask()
	case "noted late":
		early.Note(syscall.SIGTERM) // listened to already
	case "early", "early at go", "early and done", "early and forwards", "early becomes another":
		Note()
	}
	fmt.Println("ready")
	if strings.HasPrefix(role, "early") || role == "noted late" {
		time.Sleep(100 * time.Millisecond) // the signal comes
	}
	switch role {
	case "early at go", "noted late":
		Hear()
		if ctx.Err() == nil {
			fmt.Println("not heard")
		}
	case "early and done":
		fmt.Println("done")
		Exit(ctx, 0)
	case "early and forwards":
		Forward(signals, syscall.SIGINT, syscall.SIGTERM)
		fmt.Println("forwards", <-signals)
		time.Sleep(300 * time.Millisecond)
		Exit(ctx, 3)
	case "early becomes another":
		Leave()
		fmt.Println("the other")
		os.Exit(0)
	case "stuck", "asks":
		time.Sleep(time.Minute)
	case "forwards":
		time.Sleep(300 * time.Millisecond)
		Exit(ctx, 3)
	case "becomes another":
		time.Sleep(300 * time.Millisecond)
		Leave()
		fmt.Println("the other")
		os.Exit(0)
	}
	<-ctx.Done()
	fmt.Println("undone")
	Exit(ctx, 125)
}

func TestSignals(t *testing.T) {
	for _, test := range []struct {
		role    string
		signals []syscall.Signal
		out     string
		signal  syscall.Signal // that it dies by
		code    int
	}{
		{"undoes", []syscall.Signal{syscall.SIGTERM}, "undone", syscall.SIGTERM, -1},
		{"undoes", []syscall.Signal{syscall.SIGINT}, "undone", syscall.SIGINT, -1},
		{"stuck", []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}, "", syscall.SIGINT, -1},
		{"asks", []syscall.Signal{syscall.SIGINT}, "", syscall.SIGINT, -1},
		{"forwards", []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}, "", 0, 3},
		{"becomes another", []syscall.Signal{syscall.SIGTERM}, "", syscall.SIGTERM, -1},
		{"becomes another", nil, "the other", 0, 0},
		{"early", []syscall.Signal{syscall.SIGTERM}, "undone", syscall.SIGTERM, -1},
		{"early", []syscall.Signal{syscall.SIGINT}, "undone", syscall.SIGINT, -1},
		{"early at go", []syscall.Signal{syscall.SIGINT}, "undone", syscall.SIGINT, -1},
		{"noted late", []syscall.Signal{syscall.SIGTERM}, "undone", syscall.SIGTERM, -1},
		{"early and done", []syscall.Signal{syscall.SIGTERM}, "done", syscall.SIGTERM, -1},
		{"early and forwards", []syscall.Signal{syscall.SIGTERM}, "forwards terminated", 0, 3},
		{"early becomes another", []syscall.Signal{syscall.SIGTERM}, "", syscall.SIGTERM, -1},
	} {
		t.Run(test.role, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
			cmd.Env = append(os.Environ(), roleVar+"="+test.role)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			if !lines.Scan() || lines.Text() != "ready" {
				t.Fatal("it did not start: ", lines.Text())
			}
			begin := time.Now()
			for i, s := range test.signals {
				if i > 0 {
					time.Sleep(200 * time.Millisecond)
				}
				if err := cmd.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
			}
			var rest []string
			for lines.Scan() {
				rest = append(rest, lines.Text())
			}
			_ = cmd.Wait()
			ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if got := strings.Join(rest, " "); got != test.out || ws.Signaled() != (test.signal != 0) || ws.ExitStatus() != test.code ||
				ws.Signaled() && ws.Signal() != test.signal {
				t.Errorf("%q, %v", got, cmd.ProcessState)
			}
			if d := time.Since(begin); d > 30*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

// The second signal ends what is stuck, be it right behind the first.
func TestTwoAtOnce(t *testing.T) {
	for range 20 {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), roleVar+"=stuck")
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		bufio.NewScanner(out).Scan()
		begin := time.Now()
		for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Wait()
		if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || time.Since(begin) >= grace {
			t.Fatalf("%v after %v", cmd.ProcessState, time.Since(begin))
		}
	}
}

// What hangs ends all the same.
func TestGrace(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVar+"=stuck")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	bufio.NewScanner(out).Scan()
	begin := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGTERM || time.Since(begin) < grace {
		t.Errorf("%v after %v", cmd.ProcessState, time.Since(begin))
	}
}
