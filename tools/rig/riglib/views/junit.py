# SPDX-License-Identifier: GPL-2.0-only
"""JUnit XML, for CI servers: a suite for each run, a case for each line of its
judgement.  A bug that fails on the unpatched KVM alone is a pass, as that is expected.
"""

import re
import time
from xml.etree import ElementTree as xml

# XML cannot have these, not even escaped.
CONTROL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text):
    return CONTROL.sub("?", text)


def case(suite, name, of, came="passed", message="", text=""):
    """One case, and what came of it: an element of that name where it is no pass."""
    one = xml.SubElement(suite, "testcase", name=clean(name), classname=of, time="0")
    if came != "passed":
        xml.SubElement(one, came, message=clean(message)).text = clean(text)
    return came


def of_run(root, run):
    suite = xml.SubElement(root, "testsuite", name=f"{run.kernel} {run.name}",
                           timestamp=time.strftime("%Y-%m-%dT%H:%M:%S",
                                                   time.gmtime(run.when)))
    of = f"{run.kernel}.{run.name}"
    properties = xml.SubElement(suite, "properties")
    if run.found:
        plan = run.found.plan
        for name, value in (("kernel", plan.version), ("series", plan.series),
                            ("commit", plan.commit), ("vmx", plan.vmx)):
            xml.SubElement(properties, "property", name=name, value=clean(value))
    came = []
    for line in run.lines:
        how = ("failure", "unexpected", "\n".join(line.details)) if not line.ok else \
            ("skipped", line.skip) if line.skip is not None else ()
        came.append(case(suite, line.name, of, *how))
    if run.problems:
        came.append(case(suite, "the run is whole", of, "error", "missing",
                         "\n".join(run.problems)))
    finish(suite, came, run.seconds() if run.found else 0)
    return came


def finish(element, came, seconds):
    element.set("tests", str(len(came)))
    for name, tag in (("failures", "failure"), ("errors", "error"),
                      ("skipped", "skipped")):
        element.set(name, str(came.count(tag)))
    element.set("time", f"{seconds:.1f}")


def page(runs):
    root = xml.Element("testsuites", name="KVM with MSR filters")
    came, seconds = [], 0
    for kernel, of_kernel in runs.items():
        for run in of_kernel:
            came += of_run(root, run)
            seconds += run.seconds() if run.found else 0
        if not of_kernel:
            suite = xml.SubElement(root, "testsuite", name=kernel)
            mine = [case(suite, "not run", kernel, "skipped", "not run")]
            finish(suite, mine, 0)
            came += mine
    finish(root, came, seconds)
    xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + \
        xml.tostring(root, encoding="unicode") + "\n"
