//! Commands started in a running container.

use super::lenient::{body, record};

body! {
    /// A command to start in a running container.
    pub struct ExecConfig {
        /// Whether stdin is attached.
        pub attach_stdin: bool = "AttachStdin",
        /// Whether stdout is attached.
        pub attach_stdout: bool = "AttachStdout",
        /// Whether stderr is attached.
        pub attach_stderr: bool = "AttachStderr",
        /// Whether it gets a terminal; its output is then one raw stream.
        pub tty: bool = "Tty",
        /// Height and width of the terminal (API 1.42).
        pub console_size: Vec<u16> = "ConsoleSize",
        /// The keys that detach, such as `ctrl-p,ctrl-q`.
        pub detach_keys: String = "DetachKeys",
        /// Environment added to the container's, each `NAME=value`.
        pub env: Vec<String> = "Env",
        /// The command and its arguments.
        pub cmd: Vec<String> = "Cmd",
        /// Whether it gets every capability.
        pub privileged: bool = "Privileged",
        /// `user`, `user:group`, `uid` or `uid:gid`; empty for the container's.
        pub user: String = "User",
        /// The working directory; empty for the container's.
        pub working_dir: String = "WorkingDir",
    }
}

record! {
    /// What creating a command answers.
    pub(crate) struct CreateExecResponse {
        /// Its id.
        pub id: String = "Id",
    }

    /// A command that was created in a container.
    ///
    /// The Engine forgets it some minutes after its end.
    pub struct ExecInspect {
        /// Its id.
        pub id: String = "ID" | "Id",
        /// The container's id.
        pub container_id: String = "ContainerID",
        /// Whether it runs. Also false before its start.
        pub running: bool = "Running",
        /// How it ended; `None` before its end. 126 and 127 also stand for a command that could not be started.
        pub exit_code: Option<i64> = "ExitCode",
        /// Its process id on the host; 0 before its start.
        pub pid: i64 = "Pid",
        /// Whether its stdin is attached.
        pub open_stdin: bool = "OpenStdin",
        /// Whether its stdout is attached.
        pub open_stdout: bool = "OpenStdout",
        /// Whether its stderr is attached.
        pub open_stderr: bool = "OpenStderr",
        /// Whether the Engine may forget it.
        pub can_remove: bool = "CanRemove",
        /// What runs.
        pub process_config: ProcessConfig = "ProcessConfig",
    }

    /// The process of a command.
    pub struct ProcessConfig {
        /// Whether it has a terminal.
        pub tty: bool = "tty",
        /// The executable.
        pub entrypoint: String = "entrypoint",
        /// Its arguments.
        pub arguments: Vec<String> = "arguments",
        /// Whether it has every capability; `None` when not said.
        pub privileged: Option<bool> = "privileged",
        /// The user.
        pub user: String = "user",
    }
}

/// How a command is started.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct StartExec {
    /// Without attaching.
    pub(crate) detach: bool,
    /// With a terminal: has to be what the command was created with.
    pub(crate) tty: bool,
}
