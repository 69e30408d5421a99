"""The keys of a node, as lines for a shell: ``keys.py PATH`` prints the parameters under PATH.

Each parameter of SSM's is a variable of the name that follows the path. boto3 comes with Ray's
image; it finds the region in AWS_REGION, and who it is by the instance's profile.
"""

import shlex
import sys

import boto3


def main(path: str) -> str:
    """One ``export`` for each parameter. Raises SystemExit where there is none, or a bad name."""
    pages = boto3.client("ssm").get_paginator("get_parameters_by_path")
    found = {
        parameter["Name"].removeprefix(path): parameter["Value"]
        for page in pages.paginate(Path=path, WithDecryption=True)
        for parameter in page["Parameters"]
    }
    bad = [name for name in found if not (name.isascii() and name.isidentifier())]
    if bad or not found:
        what = f"{', '.join(sorted(bad))} can't be variables" if bad else "there are no parameters"
        sys.exit(f"keys.py: under {path} of SSM {what}; see docs/operate/ec2.md")
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in found.items())


if __name__ == "__main__":
    print(main(sys.argv[1]))
