package test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestAnswers compares cove's answers with those of podman 5, which are
// recorded in testdata/answers: scripts whose section "lines" has command lines
// and what was answered.
//
//	$ COMMAND        a line for the shell
//	| TEXT           what it prints
//	! TEXT           what it prints as errors
//	= N              its exit code when that is not 0
//	~ REASON         cove answers otherwise, on purpose; how follows in the same way
//	# TEXT           a comment
//
// With COVE_TEST_RECORD=1 the files are written instead. On podman (make answers)
// that changes podman's answers, on cove those of cove's own. The reason of a new
// difference is then "words" where nothing but the text of an error differs, and
// otherwise "?", with which the test fails until somebody has given one.
func TestAnswers(t *testing.T) {
	e := underTest(t)
	if e.name != "cove" && e.name+e.major != "podman5" {
		t.Skip("the answers are podman 5's")
	}
	if e.name == "cove" && (runtimeLine() != "" || monitorLine() != "") {
		t.Skip("the answers recorded of cove are those with its own parts")
	}
	files, err := filepath.Glob("testdata/answers/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	runScripts(t, e, nil, files...)
}

// question is a command line with what is answered to it.
type question struct {
	before  string // comments and empty lines above it, as they stand
	command string
	podman  string // as it stands in the file
	reason  string // why cove's differs
	cove    string
}

// readQuestions reads a section of lines; after is what follows the last one.
func readQuestions(text string) (all []question, err error) {
	before := ""
	var into *string
	for line := range strings.Lines(text) {
		switch q := len(all) - 1; {
		case strings.HasPrefix(line, "$ "):
			all = append(all, question{before: before, command: strings.TrimSuffix(line[2:], "\n")})
			before, into = "", &all[q+1].podman
		case strings.HasPrefix(line, "#"), line == "\n":
			before += line
		case into == nil || before != "" || !strings.ContainsRune("|!=~", rune(line[0])):
			return nil, fmt.Errorf("not understood, or without its command: %q", line)
		case strings.HasPrefix(line, "~ "):
			all[q].reason = strings.TrimSuffix(line[2:], "\n")
			into = &all[q].cove
		default:
			*into += line
		}
	}
	return all, nil
}

func (q question) String() string {
	s := q.before + "$ " + q.command + "\n" + q.podman
	if q.reason != "" {
		s += "~ " + q.reason + "\n" + q.cove
	}
	return s
}

// cmdAnswers: answers — asks what the script's section "lines" says.
func cmdAnswers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: answers")
	}
	h := houseOf(ts)
	all, err := readQuestions(ts.ReadFile("lines"))
	ts.Check(err)
	var wrong strings.Builder
	for i := range all {
		q := &all[i]
		got := h.ask(ts, q.command)
		want := q.podman
		if h.name == "cove" && q.reason != "" {
			want = q.cove
		}
		switch {
		case os.Getenv("COVE_TEST_RECORD") == "":
			if got != want {
				fmt.Fprintf(&wrong, "$ %s\nanswers\n%swant\n%s\n", q.command, got, want)
			} else if q.reason == "?" {
				fmt.Fprintf(&wrong, "$ %s\nneeds a reason for answering otherwise than podman\n", q.command)
			}
		case h.name == "podman":
			q.podman = got
		case got == q.podman:
			q.reason, q.cove = "", ""
		default:
			q.cove = got
			if q.reason == "" || q.reason == "words" || q.reason == "?" {
				q.reason = difference(q.podman, got)
			}
		}
	}
	if os.Getenv("COVE_TEST_RECORD") != "" {
		ts.Check(record(filepath.Join("testdata/answers", ts.Name()+".txt"), all))
	}
	if wrong.Len() > 0 {
		ts.Fatalf("%s", wrong.String())
	}
}

// difference is "words" when answers differ in the text of errors alone.
func difference(a, b string) string {
	errors := regexp.MustCompile(`(?m)^(!.*\n)+`)
	if errors.ReplaceAllString(a, "!\n") == errors.ReplaceAllString(b, "!\n") {
		return "words"
	}
	return "?"
}

// ask runs a line and gives the answer as the files have it.
func (h *house) ask(ts *testscript.TestScript, line string) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := h.command(ctx, environ(ts), ts.MkAbs("."), "host", "/bin/sh", "-c", line)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil || ctx.Err() != nil {
		ts.Fatalf("%s: %v", line, err)
	}
	for _, id := range fullID.FindAllString(out.String(), -1) {
		h.seen[id] = true
	}
	answer := prefixed("| ", h.steady(out.String())) + prefixed("! ", h.steady(errs.String()))
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		answer += fmt.Sprintf("= %d\n", code)
	}
	return answer
}

// prefixed puts something before every line.
func prefixed(prefix, text string) (s string) {
	for line := range strings.Lines(text) {
		s += strings.TrimRight(prefix+strings.TrimSuffix(line, "\n"), " \r") + "\n"
	}
	return s
}

// volatile is what differs from run to run, or between podman's host and ours:
// what is looked for, and what stands in its place.
var volatile = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "ID"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "SHORTID"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?[+-]\d\d:?\d\d|Z)?( [A-Z]{3,4})?( m=\S+)?`), "TIME"},
	{regexp.MustCompile(`\b(\d+ (second|minute|hour|day|week|month|year)s?|Less than a second|About a minute)( ago)?\b`), "AGE"},
	{regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`), "MAC"},
	{regexp.MustCompile(`\b10\.8[78]\.\d+\.\d+\b`), "ADDRESS"},       // of the default network
	{regexp.MustCompile(`dial tcp \[::1\]:`), "dial tcp 127.0.0.1:"}, // localhost, as this host has it
	{regexp.MustCompile(`(\S) {2,}`), "$1  "},                        // tables are as wide as the rest
	{regexp.MustCompile("(['`\"])cove( [a-z ]*(COMMAND|--help)?['`\"])"), "${1}podman$2"},
	{regexp.MustCompile(`\bcontainer=cove\b`), "container=podman"},
	{regexp.MustCompile(`(container_images_oci|runctop|runctmpdir)\d+`), "$1"},
	{regexp.MustCompile(`\bcove(\d+)\b`), "podman$1"}, // bridges
	{regexp.MustCompile(`GRAPHROOT/cove/volumes`), "GRAPHROOT/volumes"},
}

// steady replaces what is volatile.
func (h *house) steady(text string) string {
	text = strings.NewReplacer(h.root, "GRAPHROOT", h.run, "RUNROOT", h.work, "WORK", filepath.Dir(h.work), "TESTS").Replace(text)
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.name)
	}
	return text
}

// record writes a script anew with other lines.
func record(path string, all []question) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, _, _ := bytes.Cut(old, []byte("-- lines --\n"))
	text := string(head) + "-- lines --\n"
	for _, q := range all {
		text += q.String()
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
