package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// The names: containers that are kept until somebody removes them, such that
// pass (--rm), such whose clients are ended as well, volumes and networks.
var (
	kept         = numbered("k", 28)
	passing      = numbered("p", 5)
	left         = numbered("l", 3)
	volumeNames  = numbered("vol", 8)
	networkNames = numbered("net", 6)
)

func numbered(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint(prefix, i))
	}
	return names
}

// deed is a command and what its outcomes tell.
type deed struct {
	kind    string
	argv    []string
	limit   time.Duration // it is ended by SIGTERM after it
	want    string        // regular expression: what it prints when all goes well
	done    []fact        // it did what it should
	other   []outcome     // what it may be told instead
	perhaps []fact        // nobody knows whether it was done
	from,   // the names of a rename
	to string
}

// outcome is one that is allowed.
type outcome struct {
	answer string
	facts  []fact
}

// drawer draws deeds.
type drawer struct{ *rand.Rand }

func pick[T any](d drawer, of []T) T { return of[d.IntN(len(of))] }

// sleeper says a word and sleeps for ever.
var sleeper = []string{image, "sh", "-c", "echo begin; exec sleep 100000"}

const anyID = "[0-9a-f]{64}\n"

func (d drawer) draw() deed {
	weights := []struct {
		weight int
		draw   func() deed
	}{
		{10, d.runDetached}, {6, d.runRemove}, {3, d.runPassing}, {8, d.create}, {10, d.start}, {6, d.stop}, {4, d.restart}, {5, d.kill},
		{3, d.signal}, {4, d.pause}, {4, d.unpause}, {6, d.remove}, {6, d.removeForce}, {10, d.exec}, {6, d.rename}, {6, d.inspect},
		{4, d.ps}, {5, d.logs}, {4, d.wait}, {4, d.volumeCreate}, {4, d.volumeRemove}, {3, d.networkCreate}, {3, d.networkRemove}, {2, d.lists},
	}
	sum := 0
	for _, w := range weights {
		sum += w.weight
	}
	at := d.IntN(sum)
	for _, w := range weights {
		if at -= w.weight; at < 0 {
			return w.draw()
		}
	}
	panic("unreachable")
}

// name draws a container's name and tells whether it passes.
func (d drawer) name() (string, bool) {
	switch d.IntN(10) {
	case 0:
		return pick(d, passing), true
	case 1:
		return pick(d, left), true
	}
	return pick(d, kept), false
}

// absent is what it tells that there is no container of a name. One whose
// client was ended before it could start goes when somebody looks at it.
func absent(name string) outcome {
	what := sawOff
	if slices.Contains(left, name) {
		what |= mayOff
	}
	return outcome{"absent", of("name "+name, what)}
}

// of makes facts: "name k1", sawOn, "running k1", mayOff …
func of(pairs ...any) (facts []fact) {
	for i := 0; i < len(pairs); i += 2 {
		facts = append(facts, fact{pairs[i].(string), pairs[i+1].(sense)})
	}
	return facts
}

// ends is what stopping a container by name may do: one that passes goes.
func ends(name string, passes bool) []fact {
	facts := of("running "+name, mayOff)
	if passes {
		facts = append(facts, of("name "+name, mayOff)...)
	}
	return facts
}

func with(facts []fact, pairs ...any) []fact { return append(of(pairs...), facts...) }

// extras draws volumes, networks and ports for a container, and gives what
// using them may do and what they may answer.
func (d drawer) extras(name string) (flags []string, facts []fact, other []outcome) {
	if d.IntN(3) == 0 {
		v := pick(d, volumeNames)
		flags, facts = append(flags, "-v", v+":/data"), append(facts, fact{"volume " + v, mayOn})
	}
	if d.IntN(4) == 0 {
		flags = append(flags, "-v", "/anonymous")
	}
	switch d.IntN(5) {
	case 0:
		n := pick(d, networkNames)
		flags = append(flags, "--network", n)
		other = append(other, outcome{"absent", of("network "+n, sawOff)})
	case 1:
		flags = append(flags, "--network", "none")
	case 2:
		var number int
		_, _ = fmt.Sscanf(name, "k%d", &number)
		flags = append(flags, "-p", fmt.Sprintf("127.0.0.1:%d:80", 20000+number))
		// A container of this name may have been renamed: it stays created.
		other = append(other, outcome{"port", with(facts, "name "+name, mayOn)})
	}
	return flags, facts, other
}

func (d drawer) runDetached() deed {
	n := pick(d, kept)
	flags, uses, other := d.extras(n)
	return deed{
		kind: "run -d", argv: append(append([]string{"run", "-d", "--name", n}, flags...), sleeper...), want: anyID,
		done:    with(uses, "name "+n, sawOff|didOn, "running "+n, sawOff|didOn),
		other:   append(other, outcome{"taken", with(uses, "name "+n, sawOn)}, outcome{"absent", uses}),
		perhaps: with(uses, "name "+n, mayOn, "running "+n, mayOn),
	}
}

func (d drawer) create() deed {
	n := pick(d, kept)
	flags, uses, other := d.extras(n)
	return deed{
		kind: "create", argv: append(append([]string{"create", "--name", n}, flags...), sleeper...), want: anyID,
		done:    with(uses, "name "+n, sawOff|didOn, "running "+n, sawOff),
		other:   append(other, outcome{"taken", with(uses, "name "+n, sawOn)}),
		perhaps: with(uses, "name "+n, mayOn),
	}
}

// runRemove runs to its end what says a word and ends by itself.
func (d drawer) runRemove() deed {
	flags, uses, other := d.extras("k99")
	return deed{
		kind: "run --rm", argv: append(append([]string{"run", "--rm"}, flags...), image, "sh", "-c", "echo hello"), want: "hello\n",
		done: uses, other: append(other, outcome{"port", uses}), perhaps: uses,
	}
}

// runPassing runs what sleeps for ever and goes when it ends.
func (d drawer) runPassing() deed {
	n := pick(d, passing)
	c := deed{
		kind: "run -d --rm", argv: append([]string{"run", "-d", "--rm", "--name", n}, sleeper...), want: anyID,
		done:    of("name "+n, sawOff|didOn, "running "+n, didOn),
		other:   []outcome{{"taken", of("name "+n, sawOn)}},
		perhaps: of("name "+n, mayOn, "running "+n, mayOn),
	}
	if d.IntN(3) == 0 { // in the foreground, until its client is ended
		n = pick(d, left)
		c.kind, c.argv = "run --rm, ended", append([]string{"run", "--rm", "--sig-proxy=false", "--name", n}, sleeper...)
		c.limit, c.want = time.Duration(d.IntN(2000))*time.Millisecond, ".*\n?"
		c.done = with(ends(n, true), "name "+n, sawOff|didOn, "running "+n, didOn)
		c.perhaps = with(ends(n, true), "name "+n, mayOn, "running "+n, mayOn)
		c.other = []outcome{{"taken", of("name "+n, sawOn)}, {"exit 137", c.done}, {"absent", c.perhaps}}
	}
	return c
}

func (d drawer) start() deed {
	n, _ := d.name()
	return deed{
		kind: "start", argv: []string{"start", n}, want: n + "\n",
		done: of("name "+n, sawOn, "running "+n, didOn),
		other: []outcome{
			{"absent", nil}, // the container, or its network
			{"busy", of("name "+n, sawOn)},
			{"port", of("name "+n, sawOn)},
		},
		perhaps: of("running "+n, mayOn),
	}
}

func (d drawer) stop() deed {
	n, passes := d.name()
	return deed{
		kind: "stop", argv: []string{"stop", "-t", "0", n}, want: n + "\n",
		done: with(ends(n, passes), "name "+n, sawOn, "running "+n, didOff), perhaps: ends(n, passes),
		other: []outcome{{"absent", with(ends(n, passes), "name "+n, sawOff)}},
	}
}

func (d drawer) restart() deed {
	n, passes := d.name()
	return deed{
		kind: "restart", argv: []string{"restart", "-t", "0", n}, want: n + "\n",
		done:    with(ends(n, passes), "name "+n, sawOn, "running "+n, mayOn|sawOn),
		perhaps: with(ends(n, passes), "running "+n, mayOn),
		other: []outcome{
			{"absent", with(ends(n, passes))},
			{"busy", with(ends(n, passes), "name "+n, sawOn)},
			{"port", with(ends(n, passes), "name "+n, sawOn)},
		},
	}
}

func (d drawer) kill() deed {
	n, passes := d.name()
	return deed{
		kind: "kill", argv: []string{"kill", n}, want: n + "\n",
		done: with(ends(n, passes), "name "+n, sawOn, "running "+n, sawOn|didOff), perhaps: ends(n, passes),
		other: []outcome{absent(n), {"idle", of("name "+n, sawOn, "running "+n, sawOff)}},
	}
}

// signal sends one that a container's first process does not hear.
func (d drawer) signal() deed {
	n, _ := d.name()
	return deed{
		kind: "kill -s", argv: []string{"kill", "-s", "USR1", n}, want: n + "\n",
		done:  of("name "+n, sawOn, "running "+n, sawOn),
		other: []outcome{absent(n), {"idle", of("name "+n, sawOn, "running "+n, sawOff)}},
	}
}

func (d drawer) pause() deed {
	n, _ := d.name()
	return deed{
		kind: "pause", argv: []string{"pause", n}, want: n + "\n",
		done:  of("name "+n, sawOn, "running "+n, sawOn),
		other: []outcome{absent(n), {"idle", of("name "+n, sawOn)}},
	}
}

func (d drawer) unpause() deed {
	n, _ := d.name()
	return deed{
		kind: "unpause", argv: []string{"unpause", n}, want: n + "\n",
		done:  of("name "+n, sawOn, "running "+n, sawOn),
		other: []outcome{absent(n), {"idle", of("name "+n, sawOn)}},
	}
}

func (d drawer) remove() deed {
	n, _ := d.name()
	return deed{
		kind: "rm", argv: []string{"rm", n}, want: n + "\n",
		done: of("name "+n, sawOn|didOff, "running "+n, sawOff), perhaps: of("name "+n, mayOff),
		other: []outcome{absent(n), {"busy", of("name "+n, sawOn)}},
	}
}

func (d drawer) removeForce() deed {
	n, _ := d.name()
	argv := []string{"rm", "-f", "-t", "0", n}
	if d.IntN(2) == 0 {
		argv = []string{"rm", "-f", "-v", "-t", "0", n}
	}
	return deed{
		kind: "rm -f", argv: argv, want: "(" + n + "\n)?",
		done: of("name "+n, didOff, "running "+n, didOff), perhaps: of("name "+n, mayOff, "running "+n, mayOff),
	}
}

func (d drawer) exec() deed {
	n, _ := d.name()
	return deed{
		kind: "exec", argv: []string{"exec", n, "sh", "-c", "echo hello; exit 0"}, want: "hello\n",
		done: of("name "+n, sawOn, "running "+n, sawOn),
		other: []outcome{
			absent(n),
			{"idle", of("name "+n, sawOn)}, // not running, or paused
			{"exit 137", of("name "+n, sawOn, "running "+n, sawOn)},
		},
	}
}

func (d drawer) rename() deed {
	from, to := pick(d, kept), pick(d, kept)
	return deed{
		kind: "rename", argv: []string{"rename", from, to}, from: from, to: to,
		done:    of("name "+from, sawOn|didOff, "name "+to, sawOff|didOn, "running "+from, mayOff, "running "+to, mayOn),
		perhaps: of("name "+from, mayOff, "name "+to, mayOn, "running "+from, mayOff, "running "+to, mayOn),
		other:   []outcome{absent(from), {"taken", of("name "+from, sawOn, "name "+to, sawOn)}, {"busy", of("name "+from, sawOn)}},
	}
}

func (d drawer) inspect() deed {
	n, _ := d.name()
	return deed{
		kind: "inspect", argv: []string{"inspect", "-f", "{{.Name}} {{.State.Status}} {{.State.ExitCode}}", n},
		want: n + " (created|running|paused|stopping|removing|exited) (0|137|143|125)\n",
		done: of("name "+n, sawOn), other: []outcome{absent(n)},
	}
}

func (d drawer) ps() deed {
	return deed{kind: "ps", argv: []string{"ps", "-a"}, want: "CONTAINER ID(?s:.*)\n"}
}

func (d drawer) logs() deed {
	n, _ := d.name()
	return deed{
		kind: "logs", argv: []string{"logs", n}, want: "(begin\n)*",
		done: of("name "+n, sawOn), other: []outcome{absent(n)},
	}
}

func (d drawer) wait() deed {
	n, _ := d.name()
	return deed{
		kind: "wait", argv: []string{"wait", n}, limit: time.Duration(1+d.IntN(3)) * time.Second, want: "(0|137|143|125)\n",
		done: of("name "+n, sawOn), other: []outcome{absent(n)},
	}
}

func (d drawer) volumeCreate() deed {
	v := pick(d, volumeNames)
	return deed{
		kind: "volume create", argv: []string{"volume", "create", v}, want: v + "\n",
		done: of("volume "+v, sawOff|didOn), perhaps: of("volume "+v, mayOn),
		other: []outcome{{"taken", of("volume "+v, sawOn)}},
	}
}

func (d drawer) volumeRemove() deed {
	v := pick(d, volumeNames)
	return deed{
		kind: "volume rm", argv: []string{"volume", "rm", v}, want: v + "\n",
		done: of("volume "+v, sawOn|didOff), perhaps: of("volume "+v, mayOff),
		other: []outcome{{"absent", of("volume "+v, sawOff)}, {"used", of("volume "+v, sawOn)}},
	}
}

func (d drawer) networkCreate() deed {
	n := pick(d, networkNames)
	return deed{
		kind: "network create", argv: []string{"network", "create", n}, want: n + "\n",
		done: of("network "+n, sawOff|didOn), perhaps: of("network "+n, mayOn),
		other: []outcome{{"taken", of("network "+n, sawOn)}},
	}
}

func (d drawer) networkRemove() deed {
	n := pick(d, networkNames)
	return deed{
		kind: "network rm", argv: []string{"network", "rm", n}, want: n + "\n",
		done: of("network "+n, sawOn|didOff), perhaps: of("network "+n, mayOff),
		other: []outcome{{"absent", of("network "+n, sawOff)}, {"used", of("network "+n, sawOn)}},
	}
}

// lists are those that look at everything.
func (d drawer) lists() deed {
	argv := pick(d, [][]string{{"ps", "-a", "--size"}, {"volume", "ls"}, {"network", "ls"}, {"system", "df"}, {"stats", "--no-stream"}})
	return deed{kind: strings.Join(argv, " "), argv: argv, want: "(?s:.*)"}
}
