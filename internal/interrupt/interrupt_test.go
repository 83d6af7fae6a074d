package interrupt

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
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
		if signal.Ignored(syscall.SIGINT) { // as of what a shell runs in the background; a child does not inherit a handler
			signal.Notify(make(chan os.Signal, 1), syscall.SIGINT)
		}
		os.Exit(m.Run())
	}
	after := time.Duration(0)
	switch {
	case role == "early":
		after = 200 * time.Millisecond
	case strings.HasPrefix(role, "early"):
		after = time.Hour // never, here
	}
	if role == "stuck" {
		grace = time.Hour
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
	switch {
	case role == "early":
	case strings.HasPrefix(role, "early") || role == "noted late":
		await(func() bool { return early.Noted() != 0 })
	case strings.HasPrefix(role, "signalled"):
		<-ctx.Done()
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
		time.Sleep(300 * time.Millisecond) // it does not come to the command as well
		Exit(ctx, 3)
	case "early becomes another":
		Leave()
		fmt.Println("the other")
		os.Exit(0)
	case "stuck", "hangs":
		<-ctx.Done()
		fmt.Println("heard")
		time.Sleep(time.Minute)
	case "asks":
		time.Sleep(time.Minute)
	case "forwards":
		fmt.Println("forwards", <-signals)
		fmt.Println("forwards", <-signals)
		time.Sleep(300 * time.Millisecond) // none comes to the command as well
		Exit(ctx, 3)
	case "becomes another", "signalled becomes another":
		Leave()
		fmt.Println("the other")
		os.Exit(0)
	}
	<-ctx.Done()
	fmt.Println("undone")
	Exit(ctx, 125)
}

// await waits for what a signal brings about, and not for ever.
func await(is func() bool) {
	for end := time.Now().Add(time.Minute); !is() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
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
		{"stuck", []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}, "heard", syscall.SIGINT, -1},
		{"asks", []syscall.Signal{syscall.SIGINT}, "", syscall.SIGINT, -1},
		{"forwards", []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}, "forwards interrupt forwards terminated", 0, 3},
		{"signalled becomes another", []syscall.Signal{syscall.SIGTERM}, "", syscall.SIGTERM, -1},
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
			var rest []string
			for i, s := range test.signals {
				if i > 0 && lines.Scan() { // the one before was heard
					rest = append(rest, lines.Text())
				}
				if err := cmd.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
			}
			for lines.Scan() {
				rest = append(rest, lines.Text())
			}
			_ = cmd.Wait()
			ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if got := strings.Join(rest, " "); got != test.out || ws.Signaled() != (test.signal != 0) || ws.ExitStatus() != test.code ||
				ws.Signaled() && ws.Signal() != test.signal {
				t.Errorf("%q, %v", got, cmd.ProcessState)
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
		for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Wait()
		if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() {
			t.Fatal(cmd.ProcessState)
		}
	}
}

// What hangs ends all the same.
func TestGrace(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVar+"=hangs")
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
