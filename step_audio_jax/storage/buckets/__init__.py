"""What `files` does where a path names a bucket: `gs://…`, `s3://…`.

A store of objects has no rename, no folder and no lock. A thing is whole
because its last object is written last; one process is alone because it made
an object that nobody else could make, and goes on renewing it; what may fail
on the way is tried again, within limits, and counted.
"""
