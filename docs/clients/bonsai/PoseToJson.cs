// A Bonsai transform (put it into the workflow's folder Extensions): a pose as JSON for `rtseg source zmq --format json`.
// For SLEAP replace Bonsai.DeepLabCut by Bonsai.Sleap. See docs/sources/bonsai.md.
using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.Globalization;
using System.Linq;
using System.Reactive.Linq;
using Bonsai;
using Bonsai.DeepLabCut;

[Combinator]
[Description("Writes a pose as JSON, by the names of its body parts, with a number that counts the poses.")]
[WorkflowElementCategory(ElementCategory.Transform)]
public class PoseToJson
{
    public IObservable<string> Process(IObservable<Pose> source)
    {
        // Counted where images come in without numbers; a camera's own counter would show frames that it dropped.
        return source.Select((pose, frame) => Json(frame, pose));
    }

    static string Json(long frame, IEnumerable<BodyPart> pose)
    {
        var points = pose.Select(p => "\"" + p.Name + "\": " + (float.IsNaN(p.Position.X) || float.IsNaN(p.Position.Y)
            ? "null"
            : "[" + Number(p.Position.X) + ", " + Number(p.Position.Y) + ", " + Number(p.Confidence) + "]"));
        return "{\"frame\": " + frame.ToString(CultureInfo.InvariantCulture) + ", \"pose\": {" + string.Join(", ", points) + "}}";
    }

    // Nine digits tell every float32 from its neighbours.
    static string Number(float value) { return value.ToString("G9", CultureInfo.InvariantCulture); }
}
