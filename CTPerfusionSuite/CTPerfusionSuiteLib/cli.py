"""The command `ctperfusion`: finds each module's commands by name and imports only the one that was asked for."""

import argparse
import errno
import importlib
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import traceback
from pathlib import Path

if not __package__:
    # Run as a file (Slicer --python-script .../cli.py): make every Lib of the source tree or of the flat install importable, and the
    # modules of this one only by their full names.
    library = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != library]
    faces = (lib.with_name(lib.name.removesuffix("Lib") + ".py") for lib in library.parent.parent.glob("*/*Lib") if lib.is_dir())
    sys.path[:0] = list(dict.fromkeys([str(library.parent), *(str(face.parent) for face in faces if face.is_file())]))

COMMANDS = {
    "maps": ("PerfusionMapsLib.commands", "brain CT perfusion to maps, core and penumbra, and a report"),
    "compare": ("PerfusionMapsLib.compare_commands", "agreement of two results, or of a result with reference maps"),
    "report": ("PerfusionMapsLib.report_command", "a result folder written anew, at other thresholds, with its report"),
    "worklist": ("CTPerfusionSuiteLib.dicom.worklist_command", "what the CT series of a folder are good for"),
    "sequence": ("CTPerfusionSuiteLib.dicom.sequence_command", "a dynamic CT series from DICOM as .seq.nrrd"),
    "register": ("CTPerfusionSuiteLib.registration_command", "an anatomical image registered to the mean CT of a result"),
    "stroke": ("StrokeSegmentationLib.commands", "penumbra and core straight from the 4-D series, by a trained network"),
    "phantom": ("CTPerfusionSuiteLib.phantoms.commands", "write a simulated study with its truth"),
    "doctor": ("CTPerfusionSuiteLib.doctor", "what is installed, what is missing, versions"),
}
"""Command -> (module that offers ``register(subparsers)``, one line of help)."""

EXIT_INTERNAL = 3
EXIT_CANCELED = 130


class CommandParser(argparse.ArgumentParser):
    """argparse with one-sentence errors, ``-`` and ``_`` alike in option names, and values that may start with a minus sign."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        spelling = {name.replace("_", "-"): name for name in self._option_string_actions}
        words, pending = [], list(sys.argv[1:] if args is None else args)
        while pending:
            word = pending.pop(0)
            if word == "--":
                words += [word, *pending]
                break
            if word.startswith("--"):
                name, equals, value = word.partition("=")
                name = spelling.get(name.replace("_", "-"), name)
                action = self._option_string_actions.get(name)
                takes_value = action is not None and action.nargs is None
                if takes_value and not equals and pending and re.match(r"-[\d.]", pending[0]):
                    equals, value = "=", pending.pop(0)
                word = name + equals + value
            words.append(word)
        return super().parse_known_args(words, namespace)

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser(argv: list[str]) -> CommandParser:
    """The parser, with the full options of only the command that `argv` names."""
    parser = CommandParser(prog="ctperfusion", description="CT perfusion on the command line. Research use only.")
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    subparsers = parser.add_subparsers(dest="command", metavar="command", parser_class=CommandParser)
    wanted = next((word for word in argv if not word.startswith("-")), None)
    for name, (module, line) in COMMANDS.items():
        if name == wanted:
            importlib.import_module(module).register(subparsers)
        else:
            subparsers.add_parser(name, help=line, add_help=False)
    return parser


def version() -> str:
    """Version of the installed distribution, or of the source tree inside Slicer."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    from CTPerfusionSuiteLib.version import VERSION

    try:
        return installed("ctperfusionsuite")
    except PackageNotFoundError:
        return VERSION


def _log_failure() -> Path:
    handle, name = tempfile.mkstemp(prefix="ctperfusion-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as log:
        traceback.print_exc(file=log)
    return Path(name)


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        0 done, 1 data refused, 2 arguments, paths or permissions, 3 internal error or full disk, 130 canceled.
    """
    from CTPerfusionSuiteLib.errors import Canceled, SuiteError

    if argv is None:
        _stop_like_ctrl_c()
    argv = list(sys.argv[1:] if argv is None else argv)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addHandler(logging.NullHandler())
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    try:
        parser = build_parser(argv)
        options = parser.parse_args(argv)
        if options.version:
            print(version())
            return 0
        if not options.command:
            parser.print_help()
            return 2
        return options.run(options) or 0
    except SystemExit as stop:  # argparse: 0 after --help, 2 after an error it has already explained
        return stop.code if isinstance(stop.code, int) else 2
    except (Canceled, KeyboardInterrupt):
        print("ctperfusion: canceled; nothing was written.", file=sys.stderr)
        return EXIT_CANCELED
    except SuiteError as problem:
        print(f"ctperfusion: {problem}", file=sys.stderr)
        return problem.exit_code
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - keeps the interpreter's own flush at exit quiet
        return EXIT_INTERNAL
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            print("ctperfusion: the disk is full, so nothing was written; free some space and run again.", file=sys.stderr)
            return EXIT_INTERNAL
        if isinstance(problem, PermissionError):
            print(f"ctperfusion: no permission for '{problem.filename}'; choose another place or ask for access.", file=sys.stderr)
            return 2
        return _internal_error()
    except MemoryError:
        print("ctperfusion: not enough memory for this series; close other programs or use a machine with more.", file=sys.stderr)
        return EXIT_INTERNAL
    except Exception:
        return _internal_error()


def _stop_like_ctrl_c() -> None:
    """Let the wish of a system or a scheduler to stop (SIGTERM) end a run as Ctrl-C does: cleaned up, and told as canceled."""
    if "slicer" not in sys.modules and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _internal_error() -> int:
    try:
        place = f"details are in {_log_failure()}"
    except OSError:
        place = "no log could be written"
    kind, problem, _ = sys.exc_info()
    print(f"ctperfusion: internal error ({kind.__name__}); {place}.", file=sys.stderr)
    return EXIT_INTERNAL


def run_as_program() -> None:
    """Run one command and end the program with its exit code, also where the program is the application Slicer.

    Slicer would go on forever after a script that ended or failed, and shows what is printed in a console nobody sees.
    """
    application = getattr(sys.modules.get("slicer"), "app", None)
    if application is None:
        sys.exit(main())
    sys.stdout, sys.stderr = sys.__stdout__ or sys.stdout, sys.__stderr__ or sys.stderr
    code = EXIT_INTERNAL
    try:
        code = main()
    finally:
        sys.modules["slicer"].util.exit(code)


if __name__ == "__main__":
    run_as_program()
