package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// deed is a command to kill: what has to be there before, and whose system
// calls are counted.
type deed struct {
	name    string
	prepare [][]string
	command []string
	roles   []role
	then    [][]string // what is to show the same as when nobody was killed
	tidy    [][]string // what removes what only it makes
	files   []string   // what it writes for the user, outside of the store
	flags   []string   // before the verb, of every command
	whole   bool       // what it starts ends by itself, and is followed to its end
	images  bool       // it is about images: the check looks at layers, too
	unnamed bool       // nobody will ever name what it makes
	resumed bool       // when it has failed, by whoever comes next: what it removes is half gone
}

// role says whose system calls are counted, and who is killed at the one drawn:
// the caller itself, mostly.
type role struct {
	name   string
	counts kind
	// follows is a process of x's that runs before the command does: its
	// calls are seen, and those of what it starts.
	follows kind
	// victim is one that is killed in the caller's place: it makes no calls.
	victim kind
	// also are those that die at the same moment.
	also []kind
}

var (
	roleCommand = role{name: "cove", counts: kindCommand}
	roleMonitor = role{name: "monitor", counts: kindMonitor}
	roleInit    = role{name: "init", counts: kindInit}
	roleDriver  = role{name: "driver", counts: kindDriver}
	roleRuntime = role{name: "runtime", counts: kindRuntime}
	roleConmon  = role{name: "conmon", counts: kindConmon}
	roleGuard   = role{name: "guard", counts: kindGuard}
	roleAide    = role{name: "aide", counts: kindAide}
	roleCleanup = role{name: "cleanup", counts: kindCleanup}
	roleUplink  = role{name: "uplink", counts: kindUplink}
	roleProgram = role{name: "network", counts: kindNetwork}

	// Of the container x, which runs already.
	roleItsMonitor = role{name: "x's monitor", counts: kindFollowed, follows: kindMonitor}
	roleItsConmon  = role{name: "x's conmon", counts: kindFollowed, follows: kindConmon}
	roleItsAide    = role{name: "x's aide", counts: kindFollowed, follows: kindAide}
	roleItsInit    = role{name: "x's init", counts: kindCommand, victim: kindInit}
	// conmon asleep: it makes no calls of its own.
	roleItsWatch   = role{name: "x's conmon", counts: kindCommand, victim: kindConmon}
	roleItsExec    = role{name: "x's exec", counts: kindExec, follows: kindMonitor}
	roleItsDriver  = role{name: "x's driver", counts: kindDriver, follows: kindMonitor}
	roleItsRuntime = role{name: "x's runtime", counts: kindRuntime, follows: kindMonitor}
	roleItsProbe   = role{name: "x's probe", counts: kindDriver, follows: kindAide}
	roleItsCleanup = role{name: "x's cleanup", counts: kindCleanup, follows: kindConmon}
	roleItsUplink  = role{name: "x's uplink", counts: kindCommand, victim: kindUplink}
	roleItsProgram = role{name: "x's network", counts: kindCommand, victim: kindNetwork}
	// CRIU, at any moment of its life, alone and with who would see to what that leaves.
	roleCRIU    = role{name: "CRIU", counts: kindTracer}
	roleDriven  = role{name: "CRIU, driver", counts: kindTracer, also: []kind{kindDriver}}
	roleDumping = role{name: "CRIU, all", counts: kindTracer, also: []kind{kindRuntime, kindDriver, kindAide, kindCommand}}
	// Of nobody's: it connects all bridges of an ordinary user.
	roleKeeper = role{name: "keeper", counts: kindCommand, victim: kindKeeper}
)

// dies is the process of x's that the role kills, "" when none ran before.
func (r role) dies() kind {
	if r.counts == kindFollowed {
		return r.follows
	}
	return r.victim
}

var w = strings.Fields

// start is the command line that starts x in the background.
func (s *scene) start(options string, command ...string) []string {
	args := append(w("run -d --name x"), "--conmon-pidfile", s.pidFile("monitor"), "--pidfile", s.pidFile("init"))
	return slices.Concat(args, w(options), []string{image}, command)
}

// onImage is a command line that ends with the image and a command.
func onImage(words string, command ...string) []string {
	return slices.Concat(w(words), []string{image}, command)
}

func (s *scene) deeds() []deed {
	deeds := s.ownDeeds()
	switch {
	case s.podman:
		for i := range deeds {
			deeds[i].roles = []role{{name: "podman", counts: kindCommand}}
		}
		return slices.DeleteFunc(deeds, func(d deed) bool { return d.name != "run --rm" && d.name != "rm -f" })
	case s.user:
		// They need a cgroup, which he does not have everywhere.
		deeds = slices.DeleteFunc(deeds, func(d deed) bool {
			return slices.Contains([]string{"pause", "unpause", "update", "reads: stats"}, d.name)
		})
		return append(deeds, s.userDeeds()...)
	}
	return slices.Concat(deeds, s.runtimeDeeds(), s.conmonDeeds())
}

// ownDeeds are those of cove with its own parts.
func (s *scene) ownDeeds() []deed {
	archive, layer, written := filepath.Join(s.work, "archive.tar"), filepath.Join(s.work, "layer.tar"), filepath.Join(s.work, "written")
	running := s.start("", "sleep", "100000")
	ends := s.start("", "sh", "-c", "echo a; sleep 0.3; echo b; sleep 0.3")
	bridged := s.start("--network podman", "sleep", "100000")
	probed := s.start("--health-cmd true --health-interval 50ms", "sleep", "0.6")
	created := onImage("create --name x", "sleep", "100000")
	second := []string{"import", layer, "localhost/second:latest"}
	nameless := w("pull -q oci:" + filepath.Join(s.work, "layout"))
	noSecond, noLayered := [][]string{w("rmi -f -i localhost/second")}, [][]string{w("rmi -f -i " + s.layered)}
	back := [][]string{w("--db-backend boltdb system migrate")}
	all := []role{roleCommand, roleMonitor, roleInit}
	cove := []role{roleCommand}
	beside := []role{roleCommand, roleItsMonitor, roleItsInit}
	deeds := []deed{
		{name: "run", command: onImage("run --name x -p 127.0.0.1:8123:80 -v vol:/data -v /data2", "true"), roles: all, whole: true},
		{name: "run --rm", command: onImage("run --rm --name x -v /data2", "true"), roles: all, whole: true},
		{name: "run --rm unnamed", command: onImage("run --rm -v /data2", "true"), roles: all, whole: true, unnamed: true},
		{name: "run -d", command: running, roles: all},
		{name: "run --network", prepare: [][]string{w("network create n")}, command: onImage("run --rm --network n --name x", "true"), roles: all, whole: true},
		{name: "run --pid", prepare: [][]string{w("run -d --name y " + image + " sleep 100000")}, command: onImage("run --rm --pid container:y --name x", "true"), roles: all, whole: true},
		{name: "run hooks", command: onImage("run --name x", "true"), roles: all, flags: []string{"--hooks-dir", s.hooks()}, whole: true},
		{name: "run --restart", command: onImage("run -d --restart on-failure:2 --name x", "sh", "-c", failsOnce), roles: all, whole: true},
		{name: "create", command: created, roles: cove},
		{name: "start", prepare: [][]string{created}, command: w("start x"), roles: all},
		{name: "start -a", prepare: [][]string{onImage("create --name x", "true")}, command: w("start -a x"), roles: all, whole: true},
		{name: "start --all", prepare: [][]string{created}, command: w("start --all"), roles: all},
		{name: "stop", prepare: [][]string{running}, command: w("stop -t 0 x"), roles: beside},
		{name: "stop --time", prepare: [][]string{s.start("", traps...)}, command: w("stop -t 20 x"), roles: beside},
		{name: "restart", prepare: [][]string{running}, command: w("restart -t 0 x"), roles: append(all, roleItsMonitor, roleItsInit)},
		{name: "exec", prepare: [][]string{running}, command: w("exec x true"), roles: append(beside, roleItsExec)},
		{name: "exec -d", prepare: [][]string{running}, command: w("exec -d x true"), roles: append(beside, roleItsExec)},
		{name: "wait probed", prepare: [][]string{probed}, command: w("wait x"), roles: []role{roleItsMonitor, roleItsExec}},
		{name: "kill", prepare: [][]string{running}, command: w("kill x"), roles: beside},
		{name: "pause", prepare: [][]string{running}, command: w("pause x"), roles: beside},
		{name: "unpause", prepare: [][]string{running, w("pause x")}, command: w("unpause x"), roles: beside},
		{name: "attach", prepare: [][]string{ends}, command: w("attach x"), roles: beside},
		{name: "logs -f", prepare: [][]string{ends}, command: w("logs -f x"), roles: beside},
		{name: "wait", prepare: [][]string{ends}, command: w("wait x"), roles: beside},
		{name: "update", prepare: [][]string{running}, command: w("update --memory 64m --restart always x"), roles: cove},
		{name: "rename", prepare: [][]string{created}, command: w("rename x y"), roles: cove},
		{name: "rm", prepare: [][]string{onImage("create --name x -v /data2", "true")}, command: w("rm -v x"), roles: cove, resumed: true},
		{name: "rm -f", prepare: [][]string{running}, command: w("rm -f -t 0 x"), roles: beside, resumed: true},
		{name: "rm -af", prepare: [][]string{running}, command: w("rm -af -t 0 --filter name=x"), roles: beside, resumed: true},
		{name: "container prune", prepare: [][]string{created}, command: w("container prune -f"), roles: cove, resumed: true},
		{name: "volume create", command: w("volume create vol"), roles: cove},
		{name: "volume rm", prepare: [][]string{w("volume create vol")}, command: w("volume rm vol"), roles: cove, resumed: true},
		{name: "volume prune", prepare: [][]string{w("volume create vol")}, command: w("volume prune -f"), roles: cove, resumed: true},
		{name: "volume import", prepare: [][]string{w("volume create vol")}, command: w("volume import vol " + layer), roles: cove},
		{name: "network prune", prepare: [][]string{w("network create n")}, command: w("network prune -f"), roles: cove, resumed: true},
		{name: "network create", command: w("network create n"), roles: cove},
		{name: "network rm", prepare: [][]string{w("network create n")}, command: w("network rm n"), roles: cove, resumed: true},
		{name: "network connect", prepare: [][]string{w("network create n"), bridged}, command: w("network connect n x"), roles: cove, resumed: true},
		{name: "network disconnect", prepare: [][]string{w("network create n"), bridged, w("network connect n x")}, command: w("network disconnect n x"), roles: cove, resumed: true},
		{name: "load", prepare: [][]string{second, w("rmi localhost/second")}, command: []string{"load", "-q", "-i", archive}, roles: cove, tidy: noSecond, images: true},
		{name: "pull", command: nameless, roles: cove, tidy: noLayered, images: true},
		{name: "import", command: second, roles: cove, tidy: noSecond, images: true},
		{name: "commit", prepare: [][]string{created}, command: w("commit -q x localhost/second"), roles: cove, tidy: append(noSecond, w("image prune -f")), images: true},
		{name: "commit -p", prepare: [][]string{running}, command: w("commit -q -p x localhost/second"), roles: cove, then: [][]string{w("inspect -f {{.State.Status}} x")}, tidy: append(noSecond, w("image prune -f")), images: true},
		{name: "rmi", prepare: [][]string{second}, command: w("rmi localhost/second"), roles: cove, tidy: noSecond, images: true},
		{name: "rmi layers", prepare: [][]string{nameless}, command: w("rmi " + s.layered), roles: cove, tidy: noLayered, images: true},
		{name: "image prune", prepare: [][]string{nameless}, command: w("image prune -f"), roles: cove, tidy: noLayered, images: true},
		{name: "tag", command: w("tag " + image + " localhost/second"), roles: cove, tidy: noSecond, images: true},
		{name: "untag", prepare: [][]string{second}, command: w("untag localhost/second localhost/second"), roles: cove, tidy: noSecond, images: true},
		{name: "system migrate", prepare: [][]string{running}, command: w("--db-backend sqlite system migrate"), roles: cove, tidy: back},
		{name: "system migrate back", prepare: [][]string{running, w("--db-backend sqlite system migrate")}, command: w("--db-backend boltdb system migrate"), roles: cove, tidy: back},
		{name: "system renumber", prepare: [][]string{running}, command: w("system renumber"), roles: cove},
		{name: "system prune", prepare: [][]string{created, w("network create n"), nameless}, command: w("system prune -f"), roles: cove, resumed: true, tidy: noLayered, images: true},
		{name: "system check", prepare: [][]string{running}, command: w("system check --repair"), roles: beside, images: true},
	}
	deeds = slices.Concat(deeds, with("files", []deed{
		{name: "volume export", prepare: [][]string{w("volume create vol"), w("volume import vol " + layer)}, command: w("volume export -o " + written + " vol"), roles: cove, files: []string{written}},
		{name: "save", command: w("save -q -o " + written + " " + image), roles: cove, files: []string{written}, images: true},
		{name: "push", command: w("push -q " + image + " oci:" + written), roles: cove, files: []string{written}, images: true},
		{name: "export", prepare: [][]string{created}, command: w("export -o " + written + " x"), roles: cove, files: []string{written}},
		{name: "cp in", prepare: [][]string{running}, command: w("cp " + layer + " x:/tmp/"), roles: beside},
		{name: "cp out", prepare: [][]string{running}, command: w("cp x:/bin/busybox " + written), roles: beside, files: []string{written}},
	}), with("reads", []deed{
		{name: "system df", prepare: [][]string{created, w("volume create vol")}, command: w("system df -v"), roles: cove},
		{name: "ps", prepare: [][]string{running}, command: w("ps -a --size"), roles: cove},
		{name: "inspect", prepare: [][]string{running}, command: w("inspect x"), roles: beside},
		{name: "top", prepare: [][]string{running}, command: w("top x"), roles: beside},
		{name: "stats", prepare: [][]string{running}, command: w("stats --no-stream x"), roles: beside},
		{name: "diff", prepare: [][]string{running}, command: w("diff x"), roles: cove},
	}))
	if s.registry {
		deeds = append(deeds,
			deed{name: "pull registry", command: w("pull -q --tls-verify=false " + registry + "/layered"), roles: cove, tidy: noLayered, images: true},
			deed{name: "push registry", command: w("push -q --tls-verify=false " + image + " " + registry + "/pushed"), roles: cove, images: true})
	}
	if s.alone { // it takes everything, and what stays is made again
		full := [][]string{running, w("network create n"), w("volume create vol")}
		deeds = append(deeds, deed{name: "system reset", prepare: full, command: w("system reset -f"), roles: beside, resumed: true, tidy: [][]string{onImage("run --rm", "true"), onImage("create --name y", "true")}})
	}
	return deeds
}

// traps is a command that ends by itself when it is asked to.
var traps = []string{"sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.02; done"}

// failsOnce ends with an error the first time that it runs in a container.
const failsOnce = "test -e /tmp/ran || { : >/tmp/ran; exit 1; }"

// runtimeDeeds are those with runc for the OCI runtime.
func (s *scene) runtimeDeeds() []deed {
	running := s.start("", "sleep", "100000")
	probed := s.start("--health-cmd true --health-interval 50ms", "sleep", "0.6")
	created := onImage("create --name x", "sleep", "100000")
	all := []role{roleCommand, roleMonitor, roleDriver, roleRuntime}
	beside := []role{roleCommand, roleItsMonitor, roleItsInit}
	deeds := []deed{
		{name: "run", command: onImage("run --name x -p 127.0.0.1:8123:80", "true"), roles: all, whole: true},
		{name: "run --rm", command: onImage("run --rm --name x -v /data2", "true"), roles: all, whole: true},
		{name: "run -d", command: running, roles: all},
		{name: "run --network", prepare: [][]string{w("network create n")}, command: onImage("run --rm --network n --name x", "true"), roles: all, whole: true},
		{name: "run hooks", command: onImage("run --name x", "true"), roles: all, flags: []string{"--hooks-dir", s.hooks()}, whole: true},
		{name: "run --restart", command: onImage("run -d --restart on-failure:2 --name x", "sh", "-c", failsOnce), roles: all, whole: true},
		{name: "create", command: created, roles: []role{roleCommand}},
		{name: "start", prepare: [][]string{created}, command: w("start x"), roles: all},
		{name: "start -a", prepare: [][]string{onImage("create --name x", "true")}, command: w("start -a x"), roles: all, whole: true},
		{name: "stop", prepare: [][]string{running}, command: w("stop -t 0 x"), roles: append(beside, roleItsRuntime)},
		{name: "restart", prepare: [][]string{running}, command: w("restart -t 0 x"), roles: append(all, roleItsMonitor, roleItsInit)},
		{name: "exec", prepare: [][]string{running}, command: w("exec x true"), roles: append(beside, roleItsDriver, roleItsRuntime)},
		{name: "exec -d", prepare: [][]string{running}, command: w("exec -d x true"), roles: append(beside, roleItsDriver, roleItsRuntime)},
		{name: "wait probed", prepare: [][]string{probed}, command: w("wait x"), roles: []role{roleItsMonitor, roleItsDriver, roleItsRuntime}},
		{name: "kill", prepare: [][]string{running}, command: w("kill x"), roles: beside},
		{name: "pause", prepare: [][]string{running}, command: w("pause x"), roles: beside},
		{name: "unpause", prepare: [][]string{running, w("pause x")}, command: w("unpause x"), roles: beside},
		{name: "rm", prepare: [][]string{onImage("create --name x -v /data2", "true")}, command: w("rm -v x"), roles: []role{roleCommand}, resumed: true},
		{name: "rm -f", prepare: [][]string{running}, command: w("rm -f -t 0 x"), roles: append(beside, roleItsRuntime), resumed: true},
	}
	deeds = append(deeds, s.checkpointDeeds(append(beside, roleItsDriver, roleItsRuntime), kindMonitor, all)...)
	return with("runc", deeds, "--runtime", "runc")
}

// conmonDeeds are those with conmon in the monitor's place.
func (s *scene) conmonDeeds() []deed {
	running := s.start("", "sleep", "100000")
	ends := s.start("", "sh", "-c", "echo a; sleep 1; echo b; sleep 1")
	probed := s.start("--health-cmd true --health-interval 50ms", "sleep", "0.6")
	created := onImage("create --name x", "sleep", "100000")
	all := []role{roleCommand, roleConmon, roleDriver, roleRuntime, roleGuard}
	whole := slices.Clip(append(all, roleCleanup))
	beside := []role{roleCommand, roleItsWatch, roleItsInit}
	ending := []role{roleCommand, roleItsConmon, roleItsInit, roleItsCleanup}
	with2 := []deed{
		{name: "run", command: onImage("run --name x -p 127.0.0.1:8123:80 -v vol:/data -v /data2", "true"), roles: whole, whole: true},
		{name: "run --rm", command: onImage("run --rm --name x -v /data2", "true"), roles: whole, whole: true},
		{name: "run -d", command: running, roles: all},
		{name: "run -d --rm", command: onImage("run -d --rm --name x", "true"), roles: whole, whole: true},
		{name: "run --network", prepare: [][]string{w("network create n")}, command: onImage("run --rm --network n --name x", "true"), roles: append(whole, roleAide), whole: true},
		{name: "run --restart", command: onImage("run -d --restart on-failure:2 --name x", "sh", "-c", failsOnce), roles: whole, whole: true},
		{name: "start", prepare: [][]string{created}, command: w("start x"), roles: all},
		{name: "start -a", prepare: [][]string{onImage("create --name x", "true")}, command: w("start -a x"), roles: whole, whole: true},
		{name: "stop", prepare: [][]string{running}, command: w("stop -t 0 x"), roles: ending, whole: true},
		{name: "stop --time", prepare: [][]string{s.start("", traps...)}, command: w("stop -t 20 x"), roles: ending, whole: true},
		{name: "restart", prepare: [][]string{running}, command: w("restart -t 0 x"), roles: append(all, roleItsConmon, roleItsInit)},
		{name: "exec", prepare: [][]string{running}, command: w("exec x true"), roles: append(beside, roleAide, roleDriver, roleRuntime)},
		{name: "exec -d", prepare: [][]string{running}, command: w("exec -d x true"), roles: append(beside, roleAide)},
		{name: "wait probed", prepare: [][]string{probed}, command: w("wait x"), roles: []role{roleItsConmon, roleItsAide, roleItsProbe}},
		{name: "kill", prepare: [][]string{running}, command: w("kill x"), roles: ending, whole: true},
		{name: "pause", prepare: [][]string{running}, command: w("pause x"), roles: beside},
		{name: "unpause", prepare: [][]string{running, w("pause x")}, command: w("unpause x"), roles: beside},
		{name: "attach", prepare: [][]string{ends}, command: w("attach x"), roles: ending, whole: true},
		{name: "logs -f", prepare: [][]string{ends}, command: w("logs -f x"), roles: ending, whole: true},
		{name: "wait", prepare: [][]string{ends}, command: w("wait x"), roles: ending, whole: true},
		{name: "rm", prepare: [][]string{onImage("create --name x -v /data2", "true")}, command: w("rm -v x"), roles: []role{roleCommand}, resumed: true},
		{name: "rm -f", prepare: [][]string{running}, command: w("rm -f -t 0 x"), roles: ending, resumed: true, whole: true},
	}
	onRunc := slices.DeleteFunc(slices.Clone(with2), func(d deed) bool {
		return !slices.Contains([]string{"run", "run --restart", "start", "start -a", "stop", "restart", "exec", "exec -d", "wait probed", "rm -f"}, d.name)
	})
	onRunc = append(onRunc, s.checkpointDeeds(
		[]role{roleCommand, roleItsConmon, roleItsInit, roleItsCleanup, roleAide, roleDriver, roleRuntime}, "",
		[]role{roleCommand, roleConmon, roleDriver, roleRuntime})...)
	return append(with("conmon", with2, "--conmon", "conmon"), with("conmon, runc", onRunc, "--conmon", "conmon", "--runtime", "runc")...)
}

// checkpointDeeds are those that CRIU does for runc: nothing where it does not work. The
// roles are those of a checkpoint and of a restore, but for CRIU, which at a checkpoint is
// below a process of x's of the kind has, or below the command.
func (s *scene) checkpointDeeds(dumping []role, has kind, restoring []role) []deed {
	if exec.Command("criu", "check").Run() != nil {
		return nil
	}
	for _, r := range []role{roleCRIU, roleDriven, roleDumping} {
		r.follows = has
		dumping = append(dumping, r)
	}
	running := s.start("", "sleep", "100000")
	archive, before := filepath.Join(s.work, "checkpoint.tar"), filepath.Join(s.work, "before.tar")
	checkpoint := func(flags string) []string { return w("container checkpoint " + flags + " x") }
	// It ends, and with --leave-running runs on, as before; it can be restored; the images show.
	state := w("inspect -f {{.State.Status}}/{{.State.Checkpointed}}/{{.State.ExitCode}} x")
	restore := w("container restore x")
	ended, on := [][]string{state, restore, state}, [][]string{state, w("stop -t 0 x"), restore, state}
	restoring = append(slices.Clip(restoring), roleCRIU, roleDriven)
	leaving := slices.DeleteFunc(slices.Clone(dumping), func(r role) bool { return r.name == roleItsCleanup.name })
	noSecond := [][]string{w("rmi -f -i localhost/second")}
	// What is imported is created before it is restored, as what is run.
	exported := [][]string{running, checkpoint("--compress none --export " + archive), w("rm x")}
	deeds := []deed{
		{name: "checkpoint", prepare: [][]string{running}, command: checkpoint(""), roles: dumping, then: ended},
		{name: "checkpoint --leave-running", prepare: [][]string{running}, command: checkpoint("--leave-running"), roles: leaving, then: on},
		{name: "checkpoint --keep", prepare: [][]string{running}, command: checkpoint("--keep"), roles: dumping, then: ended},
		{name: "checkpoint --export", prepare: [][]string{running}, command: checkpoint("--export " + archive), roles: dumping, then: ended, files: []string{archive}},
		{name: "checkpoint --create-image", prepare: [][]string{running}, command: checkpoint("--create-image localhost/second"), roles: dumping, then: ended, tidy: noSecond, images: true},
		{name: "restore", prepare: [][]string{running, checkpoint("")}, command: restore, roles: restoring, then: [][]string{state}},
		{name: "restore --keep", prepare: [][]string{running, checkpoint("")}, command: w("container restore --keep x"), roles: restoring, then: [][]string{state}},
		{name: "restore --import", prepare: exported, command: w("container restore --import " + archive), roles: restoring, files: []string{archive}},
		{name: "restore --import --name", prepare: exported, command: w("container restore --import " + archive + " --name y"), roles: restoring, files: []string{archive}},
		{name: "restore image", prepare: [][]string{running, checkpoint("--create-image localhost/second"), w("rm x")}, command: w("container restore localhost/second"), roles: restoring, tidy: noSecond, images: true},
	}
	// A pre-checkpoint wants the kernel to tell of dirty pages, which not all do: runc is asked for a whole one.
	return append(deeds, with("pages", []deed{
		{name: "checkpoint --pre-checkpoint", prepare: [][]string{running}, command: checkpoint("--pre-checkpoint"), roles: leaving, then: [][]string{state}},
		{name: "checkpoint --with-previous", prepare: [][]string{running, checkpoint("--pre-checkpoint")}, command: checkpoint("--with-previous"), roles: dumping, then: ended},
		{name: "restore --import-previous", prepare: [][]string{running, checkpoint("--pre-checkpoint --export " + before), checkpoint("--with-previous --export " + archive), w("rm x")},
			command: w("container restore --import-previous " + before + " --import " + archive), roles: restoring, files: []string{archive, before}},
	}, "--runtime", s.wholePages())...)
}

// wholePages is the path of runc with whole checkpoints in the place of those of memory alone.
func (s *scene) wholePages() string { return filepath.Join(s.work, "runc") }

// writeWholePages writes that program.
func (s *scene) writeWholePages() error {
	const script = `#!/bin/bash
args=()
while [ $# -gt 0 ]; do
	case $1 in
	--pre-dump) args+=(--leave-running) ;;
	--parent-path) shift ;;
	*) args+=("$1") ;;
	esac
	shift
done
exec runc "${args[@]}"
`
	return os.WriteFile(s.wholePages(), []byte(script), 0o755)
}

// userDeeds are those about what connects an ordinary user's containers.
func (s *scene) userDeeds() []deed {
	running := s.start("", "sleep", "100000")
	bridged := s.start("--network n", "sleep", "100000")
	network := w("network create n")
	starts := []role{roleUplink, roleProgram}
	its := []role{roleItsUplink, roleItsProgram}
	return []deed{
		{name: "pasta: run", command: onImage("run --name x -p 127.0.0.1:8123:80", "true"), roles: starts, whole: true},
		{name: "pasta: start", prepare: [][]string{onImage("create --name x", "sleep", "100000")}, command: w("start x"), roles: starts},
		{name: "pasta: exec", prepare: [][]string{running}, command: w("exec x true"), roles: its},
		{name: "pasta: restart", prepare: [][]string{running}, command: w("restart -t 0 x"), roles: its},
		{name: "pasta: stop", prepare: [][]string{running}, command: w("stop -t 0 x"), roles: its},
		{name: "pasta: rm -f", prepare: [][]string{running}, command: w("rm -f -t 0 x"), roles: its},
		{name: "slirp: run", command: onImage("run --name x --network slirp4netns -p 127.0.0.1:8123:80", "true"), roles: append(starts, roleCommand, roleMonitor), whole: true},
		{name: "slirp: exec", prepare: [][]string{s.start("--network slirp4netns", "sleep", "100000")}, command: w("exec x true"), roles: its},
		{name: "bridge: run", prepare: [][]string{network}, command: onImage("run --rm --network n --name x", "true"), roles: starts, whole: true},
		{name: "bridge: run -d", prepare: [][]string{network}, command: bridged, roles: starts},
		{name: "bridge: exec", prepare: [][]string{network, bridged}, command: w("exec x true"), roles: []role{roleKeeper}},
		{name: "bridge: restart", prepare: [][]string{network, bridged}, command: w("restart -t 0 x"), roles: []role{roleKeeper}},
		{name: "bridge: rm -f", prepare: [][]string{network, bridged}, command: w("rm -f -t 0 x"), roles: []role{roleKeeper}},
	}
}

// with gives deeds further flags, and a name that tells.
func with(name string, deeds []deed, flags ...string) []deed {
	for i, d := range deeds {
		d.name, d.flags = name+": "+d.name, slices.Concat(flags, d.flags)
		deeds[i] = d
	}
	return deeds
}

// tidy removes what most deeds may have made, in a user's words. What is not
// there need not be removed.
var tidy = [][]string{{"rm", "-f", "-v", "-t", "0", "x", "y"}, {"volume", "rm", "-f", "vol"}, {"network", "rm", "-f", "n"}}
